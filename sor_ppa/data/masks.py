"""Masks in COCO's formats: polygons and run-length encoding (RLE)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as mask_util

from .issues import Place, expected

Segmentation = list[list[float]] | dict[str, Any]
"""COCO polygons (``[[x1, y1, x2, y2, ...], ...]``, pixels) or COCO RLE (``size``, ``counts``)."""

_CODES = bytes(range(48, 48 + 64))  # of COCO's text
_Runs = dict[str | bytes, tuple[np.ndarray, int] | None]  # run lengths and their sum, by text
_remembered: _Runs = {}
_MOST_REMEMBERED = 1024  # one evaluation reads the text of a mask several times
_FARTHEST = 1e6  # pixels; drawing a polygon takes time in proportion to the length of its edges


def is_number(value: object) -> bool:
    """Return whether a value is a finite float or an int of 64 bits (not a bool)."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float) and math.isfinite(value)


def as_int(value: Any) -> int | None:
    """Return a whole number as an int, or None if it is something else."""
    return int(value) if is_number(value) and value == int(value) else None


def compressed(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """Return COCO's compressed RLE of at least one polygon, or of an RLE, in an image of that size."""
    if isinstance(segmentation, list):
        parts = [list(map(float, polygon)) for polygon in segmentation]
        return mask_util.merge(mask_util.frPyObjects(parts, height, width))
    if isinstance(segmentation["counts"], list):
        return mask_util.frPyObjects(segmentation, height, width)
    return segmentation


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Return COCO's compressed RLE of a mask (H, W), bool or 0 and 1, with text that JSON can hold."""
    code = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in code["size"]], "counts": code["counts"].decode("ascii")}


def plain_mask(mask: Segmentation | None) -> Segmentation | None:
    """Return a mask as JSON can hold it."""
    if isinstance(mask, dict) and isinstance(mask["counts"], bytes):
        return {"size": [int(side) for side in mask["size"]], "counts": mask["counts"].decode("ascii")}
    return mask


def segmentation_mask(segmentation: Segmentation | None, height: int, width: int) -> np.ndarray:
    """Return the mask (H, W), bool, of polygons or RLE; empty if there are none."""
    if not segmentation:
        return np.zeros((height, width), bool)
    return mask_util.decode(compressed(segmentation, height, width)).astype(bool)


def segmentation_area(segmentation: Segmentation | None, height: int, width: int) -> float:
    """Return the area of polygons or RLE in pixels."""
    return float(mask_util.area(compressed(segmentation, height, width))) if segmentation else 0.0


def segmentation_box(segmentation: Segmentation) -> tuple[float, float, float, float]:
    """Return the XYXY box around polygons or RLE, in pixels."""
    if isinstance(segmentation, dict):
        x, y, width, height = mask_util.toBbox(compressed(segmentation, *segmentation["size"])).tolist()
        return x, y, x + width, y + height
    points = np.concatenate([np.asarray(polygon, dtype=np.float64) for polygon in segmentation])
    x, y = points[0::2], points[1::2]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Return the XYXY box of a mask (H, W), right and bottom edges exclusive; None for an empty mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def clean_segmentation(
    value: object, size: tuple[int, int] | None, place: Place, field: str
) -> Segmentation | None:
    """Return the polygons or RLE that an annotation file holds; None if nothing can be used.

    Args:
        value: what the file holds: polygons, one polygon, RLE, or a list of polygons and RLEs.
        size: (height, width) of the image; None if it is not known.
        place, field: where the mask stands. Polygons and masks that cannot be used are reported there.
    """
    if isinstance(value, tuple):  # from a pickle
        value = list(value)
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        value = _merged(value)
    if isinstance(value, dict):
        try:
            run_lengths(value)
            if size is not None and tuple(value["size"]) != size:
                raise ValueError(expected(f"size {list(size)} as the image has", value["size"]))
        except ValueError as error:
            place.omit("bad-rle", field, str(error))
            return None
        return value
    if not isinstance(value, list):
        place.omit("bad-mask", field, expected("polygons or RLE", value))
        return None
    if value and is_number(value[0]):  # one polygon that is not wrapped in a list
        value = [value]
    polygons = []
    for index, polygon in enumerate(value):
        problem = _polygon_problem(polygon)
        if problem is None:
            polygons.append(list(polygon))
        else:
            place.omit("degenerate-polygon", f"{field}[{index}]", problem)
    if not polygons:
        place.omit("no-mask", field, "expected a usable polygon, found none")
        return None
    return polygons


def _polygon_problem(polygon: Any) -> str | None:
    """Return what is wrong with a polygon, or None."""
    if not isinstance(polygon, (list, tuple)):
        return expected("a list of numbers", polygon)
    if len(polygon) < 6 or len(polygon) % 2:
        return f"expected an even count of at least 6 numbers, found {len(polygon)}"
    try:
        reach = max(max(polygon), -min(polygon))
        finite = math.isfinite(math.fsum(polygon))
    except (TypeError, ValueError, OverflowError):
        finite = False
    if not finite:
        return expected("finite numbers", polygon)
    return None if reach <= _FARTHEST else f"expected coordinates in pixels, found {reach:g}"


def _merged(parts: list[Any]) -> Any:
    """Return one RLE for a list of RLEs and polygons (some IRSR files have those), or the list itself."""
    if len(parts) == 1:
        return parts[0]
    try:
        for part in parts:
            if isinstance(part, dict):
                run_lengths(part)
        size = next(part["size"] for part in parts if isinstance(part, dict))
        masks = [part if isinstance(part, dict) else [part] for part in parts]
        return mask_util.merge([compressed(mask, *size) for mask in masks])
    except (KeyError, TypeError, ValueError, IndexError):
        return parts


def run_lengths(value: dict[str, Any]) -> np.ndarray:
    """Return the run lengths (N,), int64, of a COCO RLE: background first, column by column.

    pycocotools leaves pixels uninitialized if the runs do not cover the mask, so they are added up here.

    Args:
        value: ``size`` and ``counts``, compressed or not.

    Raises:
        ValueError: what was expected and found.
    """
    size, counts = value.get("size"), value.get("counts")
    sides = [as_int(side) for side in size] if isinstance(size, (list, tuple)) and len(size) == 2 else []
    if len(sides) != 2 or any(side is None or side <= 0 for side in sides):
        raise ValueError(expected("size [height, width]", size))
    found = None
    if isinstance(counts, (str, bytes)):
        found = _remembered.get(counts)
        if found is None:
            found = _remember([counts])[counts]
    elif isinstance(counts, list) and all(as_int(run) is not None and run >= 0 for run in counts):
        floats = np.array(counts, np.float64)
        found = floats, floats.sum()
    if found is None:
        raise ValueError(expected("counts with run lengths", counts))
    runs, covered = found
    pixels = math.prod(side for side in sides if side)
    if covered != pixels:
        raise ValueError(f"expected runs over {sides} = {pixels} pixels, found runs over {covered:.0f}")
    return runs.astype(np.int64, copy=False)


def remember_runs(segmentations: Iterable[object]) -> None:
    """Read masks in COCO's text together, for ``run_lengths``: many at once take a fraction of the time.

    Other segmentations are left alone.
    """
    found = (value.get("counts") for value in segmentations if isinstance(value, dict))
    texts = dict.fromkeys(text for text in found if isinstance(text, (str, bytes)))
    _remember([text for text in texts if text not in _remembered])


def _remember(texts: list[str | bytes]) -> _Runs:
    if len(_remembered) + len(texts) > _MOST_REMEMBERED:
        _remembered.clear()
    read = _read_texts(texts)
    _remembered.update(read)
    return read


def _read_texts(texts: list[str | bytes]) -> _Runs:
    """Return the run lengths in COCO's texts and their sums; None for another text.

    The text of a run has groups of 6 bits, of which the 6th says that more follow.
    """
    read: _Runs = dict.fromkeys(texts)
    good = []
    for text in texts:
        code = text.encode("utf-8", "replace") if isinstance(text, str) else text
        if code and not code.strip(_CODES) and not (code[-1] - 48) & 32:
            good.append((text, code))
    if not good:
        return read
    codes = np.frombuffer(b"".join([code for _, code in good]), np.uint8) - np.uint8(48)
    last = np.flatnonzero(codes < 32)
    first = np.append(0, last[:-1] + 1)
    lengths = last - first + 1
    shifts = 5 * np.minimum(np.arange(len(codes)) - np.repeat(first, lengths), 7)
    values = np.add.reduceat((codes & 31).astype(np.int64) << shifts, first)
    values -= (codes[last] & 16 > 0) * (1 << 5 * np.minimum(lengths, 7))
    values[lengths > 7] = -(1 << 50)  # more than 35 bits
    ends = np.searchsorted(last, np.cumsum([len(code) for _, code in good])).tolist()
    for (text, _), start, end in zip(good, [0, *ends], ends, strict=False):
        runs = values[start:end]
        for place in (1, 2):  # from the fourth on, each is the difference to the last but one
            runs[place::2] = runs[place::2].cumsum()
        if runs.min() >= 0:
            runs.setflags(write=False)
            read[text] = runs, int(runs.sum())
    return read


def _outlines(mask: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the outer contours along pixel edges and those of holes, in half pixels.

    On a grid of double resolution, on which each pixel also covers its corners, the centers of the border
    cells are the corners of the pixels.
    """
    height, width = mask.shape
    fine = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    fine[1::2, 1::2] = mask
    fine = cv2.dilate(fine, np.ones((3, 3), np.uint8))
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [line for line, parent in zip(contours, hierarchy[0, :, 3], strict=True) if parent < 0]
    return outer, [line for line, parent in zip(contours, hierarchy[0, :, 3], strict=True) if parent >= 0]


def mask_to_polygons(mask: np.ndarray, tolerance: float = 0.0) -> list[list[float]]:
    """Return polygons ``[x1, y1, x2, y2, ...]`` along the edges of pixels, whose union is a mask (H, W).

    COCO polygons have no holes, so a mask with holes is cut through them into parts without holes. Outlines
    may be simplified by ``tolerance`` pixels; 0 keeps every pixel.
    """
    box = mask_box(mask)
    if box is None:
        return []
    crop = np.ascontiguousarray(mask[box[1] : box[3], box[0] : box[2]] != 0, dtype=np.uint8)
    outlines, holes = _outlines(crop)
    parts = []
    if holes:
        x = holes[0][:, 0, 0]
        column = min(max(int(x.min() + x.max() + 2) // 4, 1), crop.shape[1] - 1)
        left, right = crop.copy(), crop.copy()
        left[:, column:] = 0
        right[:, :column] = 0
        parts = mask_to_polygons(left, tolerance) + mask_to_polygons(right, tolerance)
        outlines = []
    for outline in outlines:
        simple = cv2.approxPolyDP(outline, 2 * tolerance, True) if tolerance > 0 else outline
        parts.append(((simple if len(simple) >= 3 else outline) / 2.0).tolist())
    return [(np.reshape(part, (-1, 2)) + box[:2]).reshape(-1).tolist() for part in parts]


def mask_rings(mask: np.ndarray) -> list[list[float]]:
    """Return closed lines ``[x1, y1, x2, y2, ...]`` along the edges of pixels around a mask (H, W) and holes.

    A point is in the mask if it lies within an odd number of them. Holes are kept, unlike in COCO's polygons.
    """
    box = mask_box(mask)
    if box is None:
        return []
    outer, holes = _outlines(mask[box[1] : box[3], box[0] : box[2]])
    rings = []
    for line in outer + holes:
        points = line[:, 0]
        after = np.roll(points, -1, axis=0)
        # OpenCV cuts concave corners, from one edge of a pixel to the next; the corner has even coordinates
        cut = (np.abs(after - points) == 1).all(axis=1)
        corners = np.where(points % 2 == 0, points, after)
        pairs = np.stack([points, corners], axis=1).reshape(-1, 2)
        kept = np.stack([(points % 2 == 0).all(axis=1), cut], axis=1).reshape(-1)
        rings.append((pairs[kept] // 2 + box[:2]).astype(float).reshape(-1).tolist())
    return rings


def rings_mask(rings: list[list[float]], height: int, width: int) -> np.ndarray:
    """Return the mask (H, W), bool, of closed lines as :func:`mask_rings` returns them."""
    mask = np.zeros((height, width), bool)
    for ring in rings:
        mask ^= segmentation_mask([ring], height, width)
    return mask
