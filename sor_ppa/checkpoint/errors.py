"""The error of this room."""

from __future__ import annotations

import os

__all__ = ["CheckpointError", "shown"]

_LONGEST = 1000


def _one_line(text: str) -> str:
    """Text from an untrusted file, fit for one line of a terminal."""
    line = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
    return line if len(line) <= _LONGEST else line[:_LONGEST] + " ..."


def shown(value: object, limit: int = 80) -> str:
    """A value from an untrusted file in at most about ``limit`` characters.

    Containers are shown by their type alone: the ``repr`` of a nest of shared lists can be endless.
    """
    if isinstance(value, (str, bytes)):
        text = repr(value[: limit + 1])
    elif value is None or isinstance(value, (bool, int, float)):
        text = repr(value)
    elif isinstance(value, tuple) and len(value) <= 8 and all(isinstance(v, int) for v in value):
        text = str(value)
    else:
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit + 2 else text[:limit] + "..."


class CheckpointError(ValueError):
    """A weight file, or the tensors in it, cannot be used as asked.

    The message is always one line: the file (where one is known), what was found and what was expected.

    Attributes:
        path: the file, or None where the error is not tied to one (yet).
    """

    def __init__(self, message: str, path: str | os.PathLike[str] | None = None) -> None:
        self.path = None if path is None else os.fspath(path)
        super().__init__(_one_line(message if self.path is None else f"{self.path}: {message}"))

    def at(self, path: str | os.PathLike[str]) -> CheckpointError:
        """The same error, naming the file; unchanged if it names one already."""
        return self if self.path is not None else CheckpointError(str(self), path)
