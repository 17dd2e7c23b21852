"""The inputs of a large run: which images there are, in pieces of a fixed size, and how they are read."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from ..visualization.files import (
    IMAGE_SUFFIXES,
    BadInput,
    ImageReadError,
    decode_image,
    expand_inputs,
    read_image,
)
from .storage import is_url

__all__ = ["Piece", "find_pieces", "read_piece"]

_TAR = (".tar", ".tar.gz", ".tgz")
_PARQUET = ".parquet"
_ROWS_AT_ONCE = 64
_SUFFIXES = (*IMAGE_SUFFIXES, *_TAR, _PARQUET)


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
    faults: list[BadInput] = []
    files: list[str] = []

    def close() -> None:
        pieces.extend(Piece(files[i : i + size]) for i in range(0, len(files), size))
        files.clear()

    known: set[str] = set()
    for found in _expand(inputs):
        name = str(found)
        if isinstance(found, BadInput):
            faults.append(found)
            continue
        identity = name if is_url(name) else os.path.abspath(name)
        if identity in known:
            continue
        known.add(identity)
        if name.lower().endswith(_PARQUET):
            close()
            try:
                pieces += _table_pieces(name, size)
            except (OSError, ValueError) as error:
                faults.append(BadInput(name, _reason(error)))
        elif name.lower().endswith(_TAR):
            close()
            pieces.append(Piece([name]))
        else:
            files.append(name)
    close()
    return pieces, faults


def _expand(inputs: Iterable[str]) -> Iterator[str | BadInput]:
    """Yield the files that the inputs name, in their order."""
    for item in inputs:
        lines = _list_with_urls(item)
        if lines:
            yield from _expand(lines)
        elif is_url(item):
            yield from _expand_url(item)
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


def _expand_url(url: str) -> Iterator[str | BadInput]:
    """Yield the files that a URL names, sorted."""
    try:
        fs, path = fsspec.core.url_to_fs(url)
        if any(sign in path for sign in "*?["):
            paths = sorted(fs.glob(path))
        elif fs.isdir(path):
            entries = fs.ls(path, detail=True)
            paths = sorted(entry["name"] for entry in entries if entry["type"] == "file")
        elif fs.exists(path) and not path.lower().endswith(".txt"):
            yield url
            return
        else:
            yield BadInput(url, "no such file or folder, or an empty list")
            return
    except (OSError, ValueError, ImportError) as error:
        yield BadInput(url, _reason(error))
        return
    found = [fs.unstrip_protocol(path) for path in paths if path.lower().endswith(_SUFFIXES)]
    yield from found or [BadInput(url, "no pictures, tar or Parquet files here")]


def _table_pieces(path: str, size: int) -> list[Piece]:
    from pyarrow import parquet

    with fsspec.open(path) as file:
        table = parquet.ParquetFile(file)
        _columns(table, path)
        count = table.metadata.num_rows
    return [Piece([path], start, min(start + size, count)) for start in range(0, count, size)]


def _columns(table: Any, path: str) -> tuple[str | None, str | None]:
    """Return the columns of the encoded images and of their paths; ``image.bytes`` is a field of a struct."""
    import pyarrow as pa

    fields = pa.Table.from_pylist([], schema=table.schema_arrow).flatten().schema
    binary, text = (pa.binary(), pa.large_binary()), (pa.string(), pa.large_string())
    found: dict[str, str] = {}
    for column in fields:
        end = column.name.rpartition(".")[2]
        if (end == "bytes" and column.type in binary) or (end == "path" and column.type in text):
            found.setdefault(end, column.name)
    if not found:
        columns = ", ".join(f"{column.name} ({column.type})" for column in fields)
        raise ValueError(f"expected a column bytes (binary) or path (string), found {columns or 'none'}")
    return found.get("bytes"), found.get("path")


def _reason(error: Exception) -> str:
    return "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())


def read_piece(row: dict[str, Any], folder: str) -> Iterator[dict[str, Any]]:
    """Read and decode the images of a piece.

    Args:
        row: the fields of a ``Piece``, and ``shard``, its number.
        folder: to which relative local paths refer.

    Yields:
        A dict an image, and at least one: ``shard``, ``place`` (from 0), ``image`` (its name), ``height``,
        ``width``, ``pixels`` (BGR, as bytes; None if it cannot be read), ``reason`` (why not), and ``last``.
    """
    waiting: dict[str, Any] | None = None
    for place, (name, found) in enumerate(_read_all(row, folder)):
        if waiting is not None:
            yield waiting
        waiting = {"shard": row["shard"], "place": place, "image": name, "last": False}
        if isinstance(found, str):
            waiting |= {"height": 0, "width": 0, "pixels": None, "reason": found}
        else:
            height, width = found.shape[:2]
            waiting |= {"height": height, "width": width, "pixels": found.tobytes(), "reason": None}
    assert waiting is not None
    yield waiting | {"last": True}


def _read_all(row: dict[str, Any], folder: str) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """Yield the name of each image, and the image or the reason why it cannot be read."""
    files = row["files"]
    if row["stop"]:
        yield from _read_table(files[0], row["start"], row["stop"], folder)
    elif files[0].lower().endswith(_TAR):
        yield from _read_tar(files[0], folder)
    else:
        yield from ((name, _read_file(name, folder)) for name in files)


def _read_file(name: str, folder: str) -> NDArray[np.uint8] | str:
    if not is_url(name):
        path = os.path.join(folder, name)
        try:
            return read_image(path)
        except ImageReadError as error:
            return str(error).removeprefix(f"{path}: ")
    try:
        with fsspec.open(name) as file:
            return _decoded(file.read(), name)
    except (OSError, ValueError) as error:
        return _reason(error)


def _decoded(content: bytes, name: str) -> NDArray[np.uint8] | str:
    try:
        return decode_image(io.BytesIO(content), name)
    except ImageReadError as error:
        return str(error).removeprefix(f"{name}: ")


def _read_tar(path: str, folder: str) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """Yield the image files of a tar file; a name in it stands behind that of the tar file."""
    empty = True
    try:
        with fsspec.open(_located(path, folder)) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            for member in archive:
                if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                    opened = archive.extractfile(member)
                    assert opened is not None
                    name, empty = f"{path}/{member.name}", False
                    yield name, _decoded(opened.read(), name)
    except (OSError, EOFError, tarfile.TarError) as error:
        yield path, f"cannot be read as a tar file to its end ({_reason(error)})"
    else:
        if empty:
            yield path, "no pictures in this tar file"


def _read_table(
    path: str, start: int, stop: int, folder: str
) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """Yield the images of some rows of a Parquet file; one without a path is called ``FILE#ROW``."""
    import pyarrow as pa
    from pyarrow import parquet

    row = 0
    try:
        with fsspec.open(_located(path, folder)) as file:
            table = parquet.ParquetFile(file)
            columns = _columns(table, path)
            top = sorted({name.partition(".")[0] for name in columns if name})
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=top):
                if row >= stop:
                    break
                if row + len(batch) <= start:
                    row += len(batch)
                    continue
                part = pa.Table.from_batches([batch]).flatten()
                cells = (part.column(c).to_pylist() if c else [None] * len(batch) for c in columns)
                for content, given in zip(*cells, strict=True):
                    if start <= row < stop:
                        yield _read_cell(content, given, path, row, folder)
                    row += 1
    except (OSError, ValueError) as error:
        yield path, f"cannot be read as a Parquet file from row {row} on ({_reason(error)})"


def _read_cell(
    content: bytes | None, given: str | None, path: str, row: int, folder: str
) -> tuple[str, NDArray[np.uint8] | str]:
    """Return the name and image of a row; a relative path is beside the Parquet file."""
    name = given or f"{path}#{row}"
    if content is not None:
        return name, _decoded(content, name)
    if not given:
        return name, "neither bytes nor a path"
    beside = given if is_url(given) or os.path.isabs(given) else f"{_folder_of(path)}{given}"
    return name, _read_file(beside, folder)


def _folder_of(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _located(path: str, folder: str) -> str:
    return path if is_url(path) else os.path.join(folder, path)
