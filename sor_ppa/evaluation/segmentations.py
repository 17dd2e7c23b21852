"""COCO segmentations: polygons and run lengths as compressed RLE, checked before pycocotools reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import InputError, expect, short_text

Rle = dict[str, Any]
_LONGEST = 8  # last of nine groups of five bits, beyond any image
_PERIMETER = 1000  # image widths and heights; pycocotools stores every pixel along an outline


def to_rle(segmentation: Any, height: int, width: int, where: str) -> Rle:
    """Return a COCO segmentation as RLE.

    Args:
        segmentation: polygons ``[[x1, y1, ...], ...]``, or ``{"size": [h, w], "counts": ...}`` with
            run lengths or COCO's compressed string.
        height, width: pixels of the image.
        where: names the segmentation in messages.

    Raises:
        InputError: malformed, of another size, or with points far outside the image.
    """
    from pycocotools import mask as coco_mask

    where = f"{where}: segmentation"
    if isinstance(segmentation, Mapping):
        runs = rle_runs(segmentation, (height, width), where)
        if isinstance(segmentation["counts"], list):
            return coco_mask.frPyObjects({"size": [height, width], "counts": runs.tolist()}, height, width)
        return dict(segmentation)
    polygons = _polygons(segmentation, height, width, where)
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def _polygons(segmentation: Any, height: int, width: int, where: str) -> list[list[float]]:
    expect(isinstance(segmentation, list | tuple), where, "polygons or RLE", short_text(segmentation))
    try:
        polygons = [np.asarray(polygon, np.float64).reshape(-1) for polygon in segmentation]
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{where}: expected lists of numbers, found other values") from None
    lengths = [len(polygon) for polygon in polygons]
    good = bool(lengths) and all(length >= 6 and length % 2 == 0 for length in lengths)
    expect(good, where, "polygons of at least 3 points", f"lengths {lengths[:8]}")
    size = np.array([width, height])
    perimeter = 0.0
    for polygon in polygons:
        points = polygon.reshape(-1, 2)
        inside = (points >= -size) & (points <= 2 * size)  # False for NaN
        if not inside.all():
            raise InputError(f"{where}: expected points in or near the image, found {points[~inside][0]:g}")
        perimeter += np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum()
    limit = _PERIMETER * (height + width)
    expect(perimeter <= limit, where, f"outlines of at most {limit} pixels", f"{perimeter:.0f}")
    return [polygon.tolist() for polygon in polygons]


def rle_runs(rle: Any, size: tuple[int, int], where: str) -> NDArray[np.int64]:
    """Return the run lengths of a COCO mask: background first, alternating, column by column.

    Args:
        rle: ``size`` and ``counts``, which is a list of run lengths or COCO's compressed string.
        size: (height, width) that the mask must have.
        where: names the mask in messages.

    Raises:
        InputError: another size, no such code, or runs that do not sum to height * width.
    """
    expect(
        isinstance(rle, Mapping) and "size" in rle and "counts" in rle,
        where,
        "RLE with size and counts",
        short_text(rle),
    )
    given = rle["size"]
    same = isinstance(given, Sequence) and tuple(given) == tuple(size)
    expect(same, where, f"RLE with size {list(size)}", f"size {given!r:.40}")
    counts = rle["counts"]
    try:
        runs = _decoded(counts) if isinstance(counts, bytes | str) else np.asarray(counts, dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{where}: expected run lengths, found other values") from None
    total = size[0] * size[1]
    covers = runs.ndim == 1 and runs.size and runs.min() >= 0 and runs.sum() == total
    expect(covers, where, f"runs that sum to {total}", runs.sum())
    return runs


def _decoded(counts: bytes | str) -> NDArray[np.int64]:
    """Decode COCO's string: five bits a character with a continuation bit, from the third run on as the
    difference to the run two places before."""
    raw = counts.encode("latin-1", "replace") if isinstance(counts, str) else counts
    digits = np.frombuffer(raw, np.uint8).astype(np.int64) - 48
    last = (digits & 0x20) == 0
    if not digits.size or digits.min() < 0 or digits.max() > 63 or not last[-1]:
        raise ValueError("other characters or a cut code")
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(digits)) - first[np.cumsum(last) - last]
    if place.max() > _LONGEST:
        raise ValueError("a run that is too long")
    value = np.add.reduceat((digits & 0x1F) << (5 * place), first)
    sign = (digits[last] & 0x10) != 0
    value[sign] -= np.int64(1) << (5 * (place[last] + 1))[sign]
    value[1::2] = np.cumsum(value[1::2])
    value[2::2] = np.cumsum(value[2::2])
    return value


def encode_masks(masks: NDArray) -> list[Rle]:
    """Return (N, H, W) bool or uint8 0/1 masks as RLE with text counts, which JSON can hold."""
    from pycocotools import mask as coco_mask

    rles = [coco_mask.encode(np.asfortranarray(mask.view(np.uint8))) for mask in masks]
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in rles]
