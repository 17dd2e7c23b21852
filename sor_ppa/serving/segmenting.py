"""Masks from a few clicks, by GrabCut (Rother et al., SIGGRAPH 2004) on the part of the photo around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from ..contrast.outlines import resize_mask
from ..data.masks import mask_box

__all__ = ["Click", "segment_by_clicks"]

_SIDE = 208  # long side in pixels of what GrabCut sees
_MARGIN = 0.3  # around the object, as a fraction of its sides
_SURE = 0.015  # radius around a click of what it decides, as a fraction of the side
_LIKELY = 0.1  # radius around a click of what is likely to belong with it
_OPEN = 0.3  # radius around a click in which an existing mask may change
_COLOR = 15  # difference of blue, green and red in which pixels there belong with the click as well


Coordinate = Annotated[float, Field(ge=-1e5, le=1e5)]


@dataclass(frozen=True)
class Click:
    """A point in pixels of the photo, on the object (positive) or beside it."""

    x: Coordinate
    y: Coordinate
    positive: bool = True


def segment_by_clicks(
    bgr: NDArray[np.uint8],
    clicks: Sequence[Click],
    mask: NDArray[np.bool_] | None = None,
    box: Sequence[float] | None = None,
) -> NDArray[np.bool_]:
    """Return the mask (H, W) of an object after clicks.

    An existing mask changes near the clicks only. Of a new object, the parts with a positive click are kept;
    it lies in the box, if there is one.

    Args:
        bgr: (H, W, 3) uint8.
        clicks: at least a positive one, a mask or a box are needed.
        mask: (H, W) bool, the object before the clicks.
        box: (left, top, right, bottom) around a new object.
    """
    height, width = bgr.shape[:2]
    left, top, right, bottom = _window((height, width), clicks, mask, box)
    crop = np.s_[top:bottom, left:right]
    scale = min(1.0, _SIDE / max(bottom - top, right - left))
    size = (max(round((right - left) * scale), 1), max(round((bottom - top) * scale), 1))
    image = np.asarray(cv2.resize(bgr[crop], size, interpolation=cv2.INTER_AREA), np.uint8)
    points = [
        (round((c.x - left) * scale - 0.5), round((c.y - top) * scale - 0.5), c.positive) for c in clicks
    ]
    before = None
    if mask is not None:
        small = cv2.resize(mask[crop].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        before = np.asarray(small, np.uint8)
    inner = (
        None
        if box is None
        else [round((side - near) * scale) for side, near in zip(box, (left, top) * 2, strict=True)]
    )
    trimap = _trimap(image, points, before, inner)
    after = _cut(image, trimap)
    whole = (bottom - top, right - left)
    if before is None or mask is None:
        on_object = [point for point in points if point[2]]
        result = np.zeros((height, width), bool)
        result[crop] = resize_mask(_parts_at(after, on_object) if on_object else after, *whole)
        return result
    # what did not change keeps its outline at full resolution
    changed = resize_mask(_parts_at(after != (before > 0), points), *whole)
    result = mask.copy()
    result[crop] = np.where(changed, resize_mask(after, *whole), mask[crop])
    return result


def _window(
    size: tuple[int, int],
    clicks: Sequence[Click],
    mask: NDArray[np.bool_] | None,
    box: Sequence[float] | None,
) -> tuple[int, int, int, int]:
    """Return the part of the photo to look at, XYXY: around mask or box, and the clicks; else all of it."""
    height, width = size
    around = box if mask is None else mask_box(mask)
    if around is None:
        return 0, 0, width, height
    xs = [around[0], around[2], *(c.x for c in clicks)]
    ys = [around[1], around[3], *(c.y for c in clicks)]
    across, down = (int(_MARGIN * (max(v) - min(v))) + 8 for v in (xs, ys))
    left, top = max(int(min(xs)) - across, 0), max(int(min(ys)) - down, 0)
    return left, top, min(int(max(xs)) + across, width), min(int(max(ys)) + down, height)


def _trimap(
    image: NDArray[np.uint8],
    points: Sequence[tuple[int, int, bool]],
    before: NDArray[np.uint8] | None,
    box: Sequence[int] | None,
) -> NDArray[np.uint8]:
    """Return what is sure and what is likely before GrabCut."""
    side = max(image.shape[:2])
    sure = max(round(_SURE * side), 1)
    trimap = np.full(image.shape[:2], cv2.GC_PR_BGD, np.uint8)
    if before is not None:
        trimap = np.where(before > 0, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
        for x, y, _ in points:  # what may change
            near = cv2.circle(np.zeros_like(trimap), (x, y), round(_OPEN * side), 1, -1) > 0
            trimap[near] = np.where(before[near] > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    elif box is not None:
        trimap[:] = cv2.GC_BGD
        trimap[max(box[1], 0) : box[3], max(box[0], 0) : box[2]] = cv2.GC_PR_FGD
    smooth = cv2.GaussianBlur(image, (5, 5), 0)
    unsure = np.isin(trimap, (cv2.GC_PR_BGD, cv2.GC_PR_FGD))
    for x, y, positive in points:
        likely = cv2.circle(np.zeros_like(trimap), (x, y), round(_LIKELY * side), 1, -1) > 0
        if 0 <= x < image.shape[1] and 0 <= y < image.shape[0]:
            around = sure if before is None else round(_LIKELY * side)
            rows, columns = (slice(max(v - around, 0), v + around + 1) for v in (y, x))
            sample = smooth[rows, columns].reshape(-1, 3)
            similar = (np.abs(smooth - sample.mean(axis=0)) < sample.std(axis=0) + _COLOR).all(axis=2)
            likely |= _parts_at(similar, [(x, y, positive)])
        trimap[likely & unsure] = cv2.GC_PR_FGD if positive else cv2.GC_PR_BGD
    for x, y, positive in points:
        cv2.circle(trimap, (x, y), sure, cv2.GC_FGD if positive else cv2.GC_BGD, -1)
    return trimap


def _cut(image: NDArray[np.uint8], trimap: NDArray[np.uint8]) -> NDArray[np.bool_]:
    likely = np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if likely.all() or not likely.any():
        return likely
    cv2.setRNGSeed(0)
    cv2.grabCut(image, trimap, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 2, cv2.GC_INIT_WITH_MASK)
    return np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))


def _parts_at(mask: NDArray[np.bool_], points: Sequence[tuple[int, int, bool]]) -> NDArray[np.bool_]:
    """Return the connected parts of a mask that contain one of the points."""
    parts = cv2.connectedComponents(mask.astype(np.uint8))[1]
    height, width = mask.shape
    wanted = {parts[y, x] for x, y, _ in points if 0 <= x < width and 0 <= y < height}
    return np.isin(parts, list(wanted - {0}))
