"""COCO segmentations as run lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.issues import IssueLog
from ..data.masks import clean_segmentation, compressed, encode_mask, run_lengths
from .checks import InputError, expect_size

Rle = dict[str, Any]


def to_rle(segmentation: Any, height: int, width: int, where: str) -> Rle:
    """Return a COCO segmentation (polygons or RLE) of an image of height x width pixels as compressed RLE.

    Polygons without an area are left out beside others.

    Raises:
        SizeError: RLE of another size.
        InputError: malformed; the message begins with ``where``.
    """
    size = segmentation.get("size") if isinstance(segmentation, Mapping) else None
    if isinstance(size, list | tuple) and len(size) == 2:
        expect_size(size, (height, width), where, "the image")
    log = IssueLog(collect=True)
    found = clean_segmentation(segmentation, (height, width), log.at(where), "segmentation")
    if found is None:
        raise InputError(str(log.issues[0]))
    return compressed(found, height, width)


def rle_runs(rle: Any, size: tuple[int, int], where: str) -> NDArray[np.int64]:
    """Return the run lengths of a COCO RLE of ``size`` (height, width): background first, column by column.

    Raises:
        InputError: another size, no such code, or runs that do not cover the image.
    """
    try:
        runs = run_lengths(rle)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    expect_size(rle["size"], size, where, "the image")
    return runs


def encode_masks(masks: NDArray) -> list[Rle]:
    """Return (N, H, W) bool or uint8 0/1 masks as RLE with text counts, which JSON can hold."""
    return [encode_mask(mask) for mask in masks]
