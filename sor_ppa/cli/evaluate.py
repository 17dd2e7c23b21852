"""``sor-ppa evaluate``: score saved results of any method."""

from ..evaluation.__main__ import main

__all__ = ["main"]
