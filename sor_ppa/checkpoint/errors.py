"""The error that this package raises."""

from __future__ import annotations

import os

__all__ = ["CheckpointError", "quoted"]

_MAX_MESSAGE = 1000


def quoted(value: object, limit: int = 80) -> str:
    """Return a value from a file in at most about ``limit`` characters; containers by their type alone."""
    if isinstance(value, (str, bytes)):
        value = value[: limit + 1]
    elif value is not None and not isinstance(value, (bool, int, float)):
        return f"a {type(value).__name__}"
    text = repr(value)
    return text if len(text) <= limit + 2 else text[:limit] + "..."


class CheckpointError(ValueError):
    """A weight file, or the tensors in it, cannot be used as asked. The message is one printable line.

    Attributes:
        path: the file, or None where the error is not tied to one (yet).
    """

    def __init__(self, message: str, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else os.fspath(path)
        line = " ".join((message if self.path is None else f"{self.path}: {message}").split())
        line = "".join(c if c.isprintable() else "?" for c in line)
        super().__init__(line if len(line) <= _MAX_MESSAGE else line[:_MAX_MESSAGE] + " ...")

    def at(self, path: str | os.PathLike[str]) -> CheckpointError:
        """Return the same error with the file's name, or itself if it names one already."""
        return self if self.path is not None else CheckpointError(str(self), path)
