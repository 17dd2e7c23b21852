"""The inputs of a large run, in pieces of a fixed size."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import fsspec

from ..visualization.files import IMAGE_SUFFIXES, BadInput, expand_inputs
from .storage import is_url

__all__ = ["PARQUET_SUFFIX", "TAR_SUFFIXES", "Piece", "find_pieces", "image_columns", "one_line"]

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
PARQUET_SUFFIX = ".parquet"
_SUFFIXES = (*IMAGE_SUFFIXES, *TAR_SUFFIXES, PARQUET_SUFFIX)


@dataclass(frozen=True)
class Piece:
    """Images that are read by one task and whose results are one shard.

    Attributes:
        files: image files; or one tar file, or one Parquet file.
        start, stop: the first row of a Parquet file and the row behind the last one.
    """

    files: list[str]
    start: int = 0
    stop: int = 0


def find_pieces(inputs: Iterable[str], size: int) -> tuple[list[Piece], list[BadInput]]:
    """Divide the inputs into pieces; equal inputs give equal pieces.

    Args:
        inputs: local ones as ``expand_inputs`` takes them; URLs of files, folders, globs or ``.txt`` lists.
            Parquet files and tar files may stand wherever image files may.
        size: images of a piece at most; a tar file is always one piece.

    Returns:
        The pieces, and the inputs that cannot be used.
    """
    pieces: list[Piece] = []
    files: list[str] = []  # images since the last Parquet or tar file
    faults: list[BadInput] = []
    known: set[str] = set()
    for found in _named_files(inputs):
        name = str(found)
        identity = name if is_url(name) else os.path.abspath(name)
        if isinstance(found, BadInput):
            faults.append(found)
        elif identity in known:
            continue
        elif name.lower().endswith((*TAR_SUFFIXES, PARQUET_SUFFIX)):
            pieces += _pieces_of_files(files, size)
            files = []
            try:
                pieces += _pieces_of_archive(name, size)
            except (OSError, ValueError) as error:
                faults.append(BadInput(name, one_line(error)))
        else:
            files.append(name)
        known.add(identity)
    return [*pieces, *_pieces_of_files(files, size)], faults


def _pieces_of_files(files: list[str], size: int) -> list[Piece]:
    return [Piece(files[i : i + size]) for i in range(0, len(files), size)]


def _pieces_of_archive(path: str, size: int) -> list[Piece]:
    """Return the pieces of a tar or Parquet file."""
    if not path.lower().endswith(PARQUET_SUFFIX):
        return [Piece([path])]
    from pyarrow import parquet

    with fsspec.open(path) as file:
        table = parquet.ParquetFile(file)
        image_columns(table)
        count = table.metadata.num_rows
    return [Piece([path], start, min(start + size, count)) for start in range(0, count, size)]


def image_columns(table: Any) -> tuple[str | None, str | None]:
    """Return the columns of the encoded images and of their paths in a ``ParquetFile``.

    A field of a struct has the name of the struct before it, as in ``image.bytes``.

    Raises:
        ValueError: there are none.
    """
    import pyarrow as pa

    fields = pa.Table.from_pylist([], schema=table.schema_arrow).flatten().schema
    types = {"bytes": (pa.binary(), pa.large_binary()), "path": (pa.string(), pa.large_string())}
    found: dict[str, str] = {}
    for column in fields:
        end = column.name.rpartition(".")[2]
        if column.type in types.get(end, ()):
            found.setdefault(end, column.name)
    if not found:
        columns = ", ".join(f"{column.name} ({column.type})" for column in fields)
        raise ValueError(f"expected a column bytes (binary) or path (string), found {columns or 'none'}")
    return found.get("bytes"), found.get("path")


def _named_files(inputs: Iterable[str]) -> Iterator[str | BadInput]:
    """Yield the files that the inputs name, in their order."""
    for item in inputs:
        lines = _list_with_urls(item)
        if lines:
            yield from _named_files(lines)
        elif is_url(item):
            try:
                yield from _files_at(item)
            except (OSError, ValueError, ImportError) as error:
                yield BadInput(item, one_line(error))
        else:
            files, faults = expand_inputs([item], _SUFFIXES)
            yield from map(str, files)
            yield from faults


def _list_with_urls(name: str) -> list[str]:
    """Return the lines of a ``.txt`` list that is at a URL or names URLs; nothing for any other input."""
    if not name.lower().endswith(".txt") or not (is_url(name) or os.path.isfile(name)):
        return []
    try:
        with fsspec.open(name, "rt", encoding="utf-8-sig") as file:
            lines = [line.strip() for line in file]
    except (OSError, ValueError):
        return []  # reported as an input that cannot be used
    lines = [line for line in lines if line and not line.startswith("#") and line != name]
    return lines if any(map(is_url, [name, *lines])) else []


def _files_at(url: str) -> Iterator[str | BadInput]:
    """Yield the files that a URL names, sorted."""
    fs, path = fsspec.core.url_to_fs(url)
    if any(sign in path for sign in "*?["):
        paths = fs.glob(path)
    elif fs.isdir(path):
        paths = [entry["name"] for entry in fs.ls(path, detail=True) if entry["type"] == "file"]
    elif fs.exists(path) and not path.lower().endswith(".txt"):
        yield url
        return
    else:
        yield BadInput(url, "no such file or folder, or an empty list")
        return
    found = [fs.unstrip_protocol(path) for path in sorted(paths) if path.lower().endswith(_SUFFIXES)]
    yield from found or [BadInput(url, "no pictures, tar or Parquet files here")]


def one_line(error: Exception) -> str:
    """Return the reason of an error in one line."""
    return "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
