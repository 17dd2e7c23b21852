"""Files inside tar files, read in turn or by their place.

The path of one is ``TAR/OFFSET+SIZE/NAME``, such as ``a.tar/512+9134/cat.jpg``. Reading it opens the tar
file and reads nothing else of it. Paths of ordinary files are taken, too.
"""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import fsspec

__all__ = ["Member", "file_size", "iter_files", "member_of", "read_file"]

_PATH = re.compile(r"(.+\.tar)/(\d+)\+(\d+)/([^/]+)", re.DOTALL)


class Member(NamedTuple):
    """A file inside a tar file; its text is its path."""

    tar: str  # file or URL
    offset: int  # bytes
    size: int  # bytes
    name: str  # without folders

    def __str__(self) -> str:
        return f"{self.tar}/{self.offset}+{self.size}/{self.name}"

    def read(self) -> bytes:
        """Return the content; of a tar file at a URL, nothing else is fetched.

        Raises:
            OSError: the tar file cannot be read, or it ends before. File systems of URLs may raise others.
        """
        if "://" in self.tar:
            system, place = fsspec.core.url_to_fs(self.tar)
            data: bytes = system.cat_file(place, start=self.offset, end=self.offset + self.size)
        else:
            with open(self.tar, "rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        if len(data) != self.size:
            raise OSError(f"{self}: expected {self.size} bytes, found {len(data)}")
        return data


def member_of(path: str) -> Member | None:
    """Return the file inside a tar file that a path names; None for other paths."""
    found = _PATH.fullmatch(path)
    return Member(found[1], int(found[2]), int(found[3]), found[4]) if found else None


def file_size(path: str) -> int:
    """Return the number of bytes of a file."""
    member = member_of(path)
    return member.size if member else os.stat(path).st_size


def read_file(path: str) -> bytes:
    """Return the content of a file; errors are those of :meth:`Member.read`."""
    member = member_of(path)
    return member.read() if member else Path(path).read_bytes()


def iter_files(tar: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files in a tar file, which may be compressed, from its begin to its end.

    Args:
        tar: file or URL.
        suffixes: ends of the names that are read, lowercase.

    Raises:
        OSError: the tar file cannot be read to its end. File systems of URLs may raise others.
    """
    try:
        with fsspec.open(tar) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if member.isfile() and member.name.lower().endswith(suffixes):
                    opened = archive.extractfile(member)
                    assert opened is not None
                    yield member.name, opened.read()
    except (EOFError, tarfile.TarError) as error:
        raise OSError(str(error)) from error
