"""The error that every unusable configuration raises."""

from __future__ import annotations

__all__ = ["ConfigError"]


class ConfigError(ValueError):
    """A configuration that cannot be used, in one line: ``KEY: expected ..., found ...``."""
