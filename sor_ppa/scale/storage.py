"""Folders on this machine or at any URL that fsspec knows."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from ..atomic import atomic_write

__all__ = ["Folder", "is_url"]


def is_url(name: str) -> bool:
    """Return whether a name is a URL such as ``s3://bucket/photos``, not a local path."""
    return "://" in name


@dataclass
class Folder:
    """A folder whose files are written whole or not at all.

    Attributes:
        url: of the folder, or a local path.
    """

    url: str
    _fs: Any = field(init=False, repr=False)
    _root: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(self.url)

    def path(self, name: str) -> str:
        """Return the URL or path of a file."""
        return f"{self.url.rstrip('/')}/{name}"

    def names(self, prefix: str = "") -> list[str]:
        """Return the sorted names of the files that begin with ``prefix``, a subfolder included."""
        folder = f"{self._root}/{prefix}".rpartition("/")[0]
        self._fs.invalidate_cache()  # other processes write here
        if not self._fs.isdir(folder):
            return []
        names = (
            os.path.relpath(entry["name"], self._root)
            for entry in self._fs.ls(folder, detail=True)
            if entry["type"] == "file"
        )
        return sorted(name for name in names if name.startswith(prefix) and not name.endswith(".part"))

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return bytes(self._fs.cat_file(f"{self._root}/{name}"))

    def write(self, name: str, content: bytes) -> None:
        """Write a file whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        path = f"{self._root}/{name}"
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if isinstance(self._fs, LocalFileSystem):
            with atomic_write(path) as part:
                part.write_bytes(content)
        else:
            with self._fs.transaction, self._fs.open(path, "wb") as file:  # a temporary file, then renamed
                file.write(content)

    def remove(self, name: str) -> None:
        """Delete a file."""
        self._fs.rm_file(f"{self._root}/{name}")
