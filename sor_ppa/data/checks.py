"""Checks of values that readers take from files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .faults import DatasetError, FaultSink
from .image_size import image_sizes

__all__ = [
    "clean_segmentation",
    "is_number",
    "json_file",
    "number_box",
    "rle_fault",
    "shown",
    "sizes_of",
    "text_of",
]

_BEYOND_INT64 = 2**63
_FARTHEST = 1e6


def shown(value: object, limit: int = 60) -> str:
    """A value on one short line, for messages."""
    try:
        text = repr(value)
    except RecursionError:  # lists in lists in lists
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def text_of(path: Path) -> bytes:
    """Bytes of a file that a dataset must have.

    Raises:
        DatasetError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path}: no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from None


def json_file(path: Path) -> Any:
    """Content of a JSON file that a dataset must have.

    Raises:
        DatasetError: it is missing, cannot be read or is not JSON.
    """
    try:
        return json.loads(text_of(path))
    except (ValueError, RecursionError) as error:  # ValueError: no JSON, no text, or an endless number
        raise DatasetError(f"{path}: not valid JSON ({error})") from None


def is_number(value: object) -> bool:
    """Whether a value is a finite float, or an int of 64 bits (and not a bool)."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < _BEYOND_INT64
    return isinstance(value, float) and math.isfinite(value)


def number_box(value: object) -> tuple[float, float, float, float] | None:
    """Four finite numbers, or None."""
    if not isinstance(value, (list, tuple)) or len(value) != 4 or not all(map(is_number, value)):
        return None
    return value[0], value[1], value[2], value[3]


def _merged(parts: list[Any]) -> Any:
    """One RLE for a list of RLEs and polygons (some IRSR files hold such); the list if that fails."""
    if len(parts) == 1:
        return parts[0]
    if any(isinstance(part, dict) and rle_fault(part) for part in parts):
        return parts
    from pycocotools import mask as mask_util

    try:
        height, width = next(part["size"] for part in parts if isinstance(part, dict))
        encoded = []
        for part in parts:
            plain = isinstance(part, list) or isinstance(part["counts"], list)
            found = mask_util.frPyObjects([part] if isinstance(part, list) else part, height, width)
            encoded += found if isinstance(found, list) else [found if plain else part]
        return mask_util.merge(encoded)
    except (KeyError, TypeError, ValueError, IndexError):
        return parts


def clean_segmentation(
    value: object, sink: FaultSink, file: Path | str, record: str, field: str
) -> list[list[float]] | dict[str, Any] | None:
    """Check COCO polygons or RLE.

    Polygons of fewer than three points are left out (a mild fault); so is a mask that cannot be used.

    Args:
        value: what the file holds.
        sink: where faults go.
        file, record, field: the place, for messages.

    Returns:
        the segmentation, or None where nothing of it can be used.
    """
    if isinstance(value, tuple):  # pickles hold such
        value = list(value)
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        value = _merged(value)
    if isinstance(value, dict):
        wrong = rle_fault(value)
        if wrong is not None:
            sink.mild("bad-rle", file, record, field, wrong)
            return None
        return value
    if not isinstance(value, list):
        sink.mild("bad-mask", file, record, field, f"found {shown(value)}, expected polygons or RLE")
        return None
    if value and is_number(value[0]):  # one polygon, not wrapped in a list
        value = [value]
    kept = []
    for index, polygon in enumerate(value):
        place = f"{field}[{index}]"
        if isinstance(polygon, tuple):
            polygon = list(polygon)
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            found = f"{len(polygon)} numbers" if isinstance(polygon, list) else shown(polygon)
            expected = "an even count of at least 6"
            sink.mild("degenerate-polygon", file, record, place, f"found {found}, expected {expected}")
            continue
        try:
            total = math.fsum(polygon)
        except (TypeError, ValueError, OverflowError):
            total = math.nan
        if not math.isfinite(total):
            sink.mild("degenerate-polygon", file, record, place, "holds something that is no finite number")
            continue
        reach = max(max(polygon), -min(polygon))
        if reach > _FARTHEST:  # rasterising walks along every edge
            sink.mild("degenerate-polygon", file, record, place, f"found a coordinate of {reach:g} pixels")
            continue
        kept.append(polygon)
    if not kept:
        sink.mild("no-mask", file, record, field, "holds no usable polygon")
        return None
    return kept


def rle_fault(value: dict[str, Any]) -> str | None:
    """What is wrong with a COCO RLE, or None.

    Decoders read past the end of runs that do not cover the mask, so they have to be counted before.

    Args:
        value: ``size`` and ``counts``, compressed or not.
    """
    shape, counts = value.get("size"), value.get("counts")
    sides = isinstance(shape, (list, tuple)) and len(shape) == 2
    if not sides or not all(is_number(side) and side == int(side) and side > 0 for side in shape or ()):
        return f"found size {shown(shape)}, expected [height, width]"
    assert shape is not None
    if isinstance(counts, (str, bytes)):
        runs = _runs(counts)
    elif isinstance(counts, list) and all(is_number(run) and run == int(run) for run in counts):
        runs = np.array(counts, np.float64)
    else:
        runs = None
    if runs is None or (runs < 0).any():
        return f"found counts {shown(counts)}, expected the lengths of runs or COCO's text for them"
    expected = int(shape[0]) * int(shape[1])
    if runs.sum() != expected:
        return f"found runs over {runs.sum():.0f} pixels, expected {shape[0]} x {shape[1]} = {expected}"
    return None


def _runs(counts: str | bytes) -> np.ndarray | None:
    """Lengths of the runs in COCO's text: groups of 6 bits, the 6th bit says that more follow."""
    try:
        text = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError:
        return None
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    last = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > 7:  # 35 bits are more than any picture has
        return None
    shifts = 5 * (np.arange(len(codes)) - np.repeat(first, lengths))
    values = np.add.reduceat((codes & 31) << shifts, first)
    values -= np.where(codes[last] & 16, np.int64(1) << 5 * lengths, 0)
    for start in (1, 2):  # from the fourth on, each is the difference to the last but one
        values[start::2] = values[start::2].cumsum()
    return values


def sizes_of(
    paths: Sequence[str], records: Sequence[str], file: Path | str, field: str, sink: FaultSink
) -> list[tuple[int, int] | None]:
    """Sizes of the images of a dataset, from their headers.

    Args:
        paths: N image files.
        records: N names of the records they belong to.
        file, field: where the names of the images stand.
        sink: where faults go.

    Returns:
        N times (height, width); None where it could not be read.

    Raises:
        DatasetError: an image is missing or broken, unless faults are being collected.
    """
    sizes: list[tuple[int, int] | None] = []
    found = image_sizes(paths)
    bad = sum(isinstance(size, OSError) for size in found)
    for path, record, size in zip(paths, records, found, strict=True):
        if not isinstance(size, OSError):
            sizes.append(size)
            continue
        sizes.append(None)
        others = "" if sink.collect or bad == 1 else f" ({bad - 1} more images are missing or broken)"
        if isinstance(size, FileNotFoundError):
            sink.serious("missing-image", file, record, field, f"no such image: {path}{others}")
        else:
            sink.serious("broken-image", file, record, field, f"not a readable image: {path}{others}")
    return sizes
