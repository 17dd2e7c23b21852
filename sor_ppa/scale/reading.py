"""Reading and decoding the images of a piece."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from ..table_output import encodable_name
from ..tar_members import iter_files
from ..visualization.files import IMAGE_SUFFIXES, ImageReadError, decode_image, read_image
from .sources import TAR_SUFFIXES, image_columns, one_line
from .storage import is_url

__all__ = ["read_piece"]

_ROWS_AT_ONCE = 64
_Photo = NDArray[np.uint8] | str  # an image (H, W, 3) BGR, or the reason why it cannot be read


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
        waiting = {"shard": row["shard"], "place": place, "image": encodable_name(name), "last": False}
        if isinstance(found, str):
            waiting |= {"height": 0, "width": 0, "pixels": None, "reason": found}
        else:
            height, width = found.shape[:2]
            waiting |= {"height": height, "width": width, "pixels": found.tobytes(), "reason": None}
    assert waiting is not None
    yield waiting | {"last": True}


def _read_all(row: dict[str, Any], folder: str) -> Iterator[tuple[str, _Photo]]:
    """Yield the name of each image, and the image or the reason why it cannot be read."""
    files = row["files"]
    if row["stop"]:
        yield from _read_table(files[0], row["start"], row["stop"], folder)
    elif files[0].lower().endswith(TAR_SUFFIXES):
        yield from _read_tar(files[0], folder)
    else:
        yield from ((name, _read_photo(name, folder)) for name in files)


def _read_photo(name: str, folder: str) -> _Photo:
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
        return one_line(error)


def _decoded(content: bytes, name: str) -> _Photo:
    try:
        return decode_image(io.BytesIO(content), name)
    except ImageReadError as error:
        return str(error).removeprefix(f"{name}: ")


def _read_tar(path: str, folder: str) -> Iterator[tuple[str, _Photo]]:
    """Yield the image files of a tar file; a name in it stands behind that of the tar file."""
    empty = True
    try:
        for member, content in iter_files(_located(path, folder), IMAGE_SUFFIXES):
            name, empty = f"{path}/{member}", False
            yield name, _decoded(content, name)
    except OSError as error:
        yield path, f"cannot be read as a tar file to its end ({one_line(error)})"
    else:
        if empty:
            yield path, "no pictures in this tar file"


def _read_table(path: str, start: int, stop: int, folder: str) -> Iterator[tuple[str, _Photo]]:
    """Yield the images of some rows of a Parquet file; one without a path is called ``FILE#ROW``."""
    import pyarrow as pa
    from pyarrow import parquet

    row = 0
    try:
        with fsspec.open(_located(path, folder)) as file:
            table = parquet.ParquetFile(file)
            columns = image_columns(table)
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
        yield path, f"cannot be read as a Parquet file from row {row} on ({one_line(error)})"


def _read_cell(
    content: bytes | None, given: str | None, path: str, row: int, folder: str
) -> tuple[str, _Photo]:
    """Return the name and image of a row; a relative path is beside the Parquet file."""
    name = given or f"{path}#{row}"
    if content is not None:
        return name, _decoded(content, name)
    if not given:
        return name, "neither bytes nor a path"
    beside = given if is_url(given) or os.path.isabs(given) else path[: path.rfind("/") + 1] + given
    return name, _read_photo(beside, folder)


def _located(path: str, folder: str) -> str:
    return path if is_url(path) else os.path.join(folder, path)
