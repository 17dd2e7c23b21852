"""Checks of values that readers take from files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .faults import DatasetError, FaultSink
from .image_size import image_sizes

__all__ = ["clean_segmentation", "json_file", "number_box", "shown", "sizes_of", "text_of"]


def shown(value: object, limit: int = 60) -> str:
    """A value on one short line, for messages."""
    text = repr(value)
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
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DatasetError(f"{path}: not valid JSON ({error})") from None


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float (and not a bool)."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number_box(value: object) -> tuple[float, float, float, float] | None:
    """Four finite numbers, or None."""
    if not isinstance(value, (list, tuple)) or len(value) != 4 or not all(map(is_number, value)):
        return None
    return value[0], value[1], value[2], value[3]


def _merged(parts: list[Any]) -> Any:
    """One RLE for a list of RLEs and polygons (some IRSR files hold such); the list if that fails."""
    if len(parts) == 1:
        return parts[0]
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
    value: object, size: tuple[int, int] | None, sink: FaultSink, file: Path | str, record: str, field: str
) -> list[list[float]] | dict[str, Any] | None:
    """Check COCO polygons or RLE.

    Polygons of fewer than three points are left out (a mild fault); so is a mask that cannot be used.

    Args:
        value: what the file holds.
        size: (height, width) of the image, if known, which an RLE must have.
        sink: where faults go.
        file, record, field: the place, for messages.

    Returns:
        the segmentation, or None where nothing of it can be used.
    """
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        value = _merged(value)
    if isinstance(value, dict):
        shape = value.get("size")
        if not isinstance(shape, (list, tuple)) or len(shape) != 2 or "counts" not in value:
            sink.mild("bad-rle", file, record, field, f"found {shown(value)}, expected size and counts")
            return None
        if size is not None and tuple(shape) != size:
            sink.mild("bad-rle", file, record, field, f"found size {shown(shape)}, expected {list(size)}")
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
        kept.append(polygon)
    if not kept:
        sink.mild("no-mask", file, record, field, "holds no usable polygon")
        return None
    return kept


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
