"""Outlines of objects, tightened by GrabCut and scaled to the size of the picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from .selection import same_box

__all__ = ["resize_mask", "tighten"]

_SIDE = 128  # long side in pixels of what GrabCut sees
_MARGIN = 0.15  # around the box, as a fraction of its sides
_SAME_BOX = 0.85  # box IoU below which GrabCut has lost or gained a part, and is not trusted
_LEAST = 64  # pixels of object and of surround that GrabCut needs


def tighten(bgr: NDArray[np.uint8], mask: NDArray[np.bool_], band: float) -> NDArray[np.bool_]:
    """Return the mask with the outline that GrabCut (Rother et al., SIGGRAPH 2004) finds near it.

    Args:
        bgr: (H, W, 3) uint8.
        mask: (H, W) bool, one object.
        band: half width of what may change, as a fraction of the square root of the object's area.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    crop = tuple(
        slice(max(places[0] - margin, 0), places[-1] + 1 + margin)
        for places in (rows, columns)
        for margin in (int(_MARGIN * (places[-1] + 1 - places[0])) + 3,)
    )
    height, width = mask[crop].shape
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    image = cv2.resize(bgr[crop], size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(mask[crop].astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    if min(np.count_nonzero(inside), np.count_nonzero(inside == 0)) < _LEAST:
        return mask
    distance = band * np.sqrt(np.count_nonzero(inside)) + 1
    # what lies outside of the picture continues what lies inside
    deep = cv2.distanceTransform(np.pad(inside, 1, mode="edge"), cv2.DIST_L2, 3)[1:-1, 1:-1] > distance
    far = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3) > distance
    trimap = np.where(inside > 0, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    trimap[deep], trimap[far] = cv2.GC_FGD, cv2.GC_BGD
    if not deep.any() or not far.any():
        return mask
    cv2.setRNGSeed(0)
    cv2.grabCut(image, trimap, (0, 0, 1, 1), np.zeros((1, 65)), np.zeros((1, 65)), 1, cv2.GC_INIT_WITH_MASK)
    result = np.zeros_like(mask)
    result[crop] = resize_mask((trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD), height, width)
    return result if same_box(result, mask, _SAME_BOX) else mask


def resize_mask(mask: NDArray[np.bool_], height: int, width: int) -> NDArray[np.bool_]:
    """Resize a mask; enlarged outlines become smooth."""
    if mask.shape == (height, width):
        return mask
    larger = height * width > mask.size
    soft = cv2.resize(
        mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR if larger else cv2.INTER_AREA
    )
    return soft >= 0.5
