"""The error of this room."""

from __future__ import annotations

import os

__all__ = ["CheckpointError"]


class CheckpointError(ValueError):
    """A weight file, or the tensors in it, cannot be used as asked.

    The message is always one line: the file (where one is known), what was found and what was expected.
    """

    def __init__(self, message: str, path: str | os.PathLike[str] | None = None) -> None:
        text = message if path is None else f"{os.fspath(path)}: {message}"
        super().__init__(" ".join(text.split()))
