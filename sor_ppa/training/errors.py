"""The error of a training that diverged."""

from __future__ import annotations

__all__ = ["NonFiniteError"]


class NonFiniteError(ArithmeticError):
    """A loss, gradient or weight is NaN or infinite; the message is one line."""
