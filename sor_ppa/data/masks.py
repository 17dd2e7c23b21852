"""Between binary masks and COCO polygons."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

__all__ = ["mask_box", "mask_to_polygons", "polygons_to_mask"]


def mask_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """XYXY box of a (H, W) mask, right and bottom edges exclusive; None for an empty mask."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def polygons_to_mask(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    """Rasterise the union of polygons as COCO does.

    Args:
        polygons: each ``[x1, y1, x2, y2, ...]`` in pixels, at least three points.
        height, width: size of the mask.

    Returns:
        (H, W) bool.
    """
    from pycocotools import mask as mask_util

    if not len(polygons):
        return np.zeros((height, width), dtype=bool)
    parts = mask_util.frPyObjects([list(map(float, polygon)) for polygon in polygons], height, width)
    return mask_util.decode(mask_util.merge(parts)).astype(bool)


def _outlines(mask: np.ndarray) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Contours of a mask along the edges of its pixels, and the first contour of a hole, if any.

    On a grid of double resolution where each pixel covers its corners as well, the centres of the
    border cells are the corners of the pixels.
    """
    height, width = mask.shape
    fine = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)
    for dy in range(3):
        for dx in range(3):
            fine[dy : dy + 2 * height : 2, dx : dx + 2 * width : 2] |= mask
    contours, hierarchy = cv2.findContours(fine, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if hierarchy is None:
        return [], None
    parents = hierarchy[0, :, 3]
    holes = [contour for contour, parent in zip(contours, parents, strict=True) if parent >= 0]
    return [c for c, parent in zip(contours, parents, strict=True) if parent < 0], holes[0] if holes else None


def mask_to_polygons(mask: np.ndarray, tolerance: float = 0.0) -> list[list[float]]:
    """Polygons whose union is a mask.

    COCO polygons have no holes, so a mask with holes is cut through them into parts without.

    Args:
        mask: (H, W), true inside.
        tolerance: how far (pixels) the outline may be simplified; 0 keeps every pixel.

    Returns:
        polygons ``[x1, y1, x2, y2, ...]`` along the edges of pixels; empty for an empty mask.
    """
    box = mask_box(mask)
    if box is None:
        return []
    x, y = box[0], box[1]
    crop = np.ascontiguousarray(mask[y : box[3], x : box[2]], dtype=np.uint8)
    crop = (crop != 0).astype(np.uint8)
    outlines, hole = _outlines(crop)
    if hole is not None:
        column = int(hole[:, 0, 0].min() + hole[:, 0, 0].max() + 2) // 4
        column = min(max(column, 1), crop.shape[1] - 1)
        left, right = crop.copy(), crop.copy()
        left[:, column:] = 0
        right[:, :column] = 0
        parts = mask_to_polygons(left, tolerance) + mask_to_polygons(right, tolerance)
        shift = np.array([x, y], dtype=np.float64)
        return [(np.reshape(part, (-1, 2)) + shift).reshape(-1).tolist() for part in parts]
    polygons = []
    for outline in outlines:
        if tolerance > 0:
            simple = cv2.approxPolyDP(outline, 2 * tolerance, True)
            outline = simple if len(simple) >= 3 else outline
        if len(outline) >= 3:
            polygons.append((outline.reshape(-1, 2) / 2.0 + (x, y)).reshape(-1).tolist())
    return polygons
