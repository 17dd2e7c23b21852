"""Masks of polygons and of RLE, compressed or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from .masks import polygons_to_mask
from .record import Segmentation

__all__ = ["compressed", "segmentation_area", "segmentation_mask"]


def compressed(segmentation: Segmentation, height: int, width: int) -> dict[str, Any]:
    """COCO's compressed RLE (counts are bytes) of any segmentation of an image of that size."""
    from pycocotools import mask as mask_util

    if isinstance(segmentation, list):
        parts = [list(map(float, polygon)) for polygon in segmentation]
        return mask_util.merge(mask_util.frPyObjects(parts, height, width))
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return mask_util.frPyObjects(segmentation, height, width)
    if isinstance(counts, str):
        return {"size": list(segmentation["size"]), "counts": counts.encode("ascii")}
    return segmentation


def segmentation_mask(segmentation: Segmentation | None, height: int, width: int) -> np.ndarray:
    """(H, W) bool; empty without a segmentation."""
    if segmentation is None:
        return np.zeros((height, width), bool)
    if isinstance(segmentation, list):
        return polygons_to_mask(segmentation, height, width)
    from pycocotools import mask as mask_util

    return mask_util.decode(compressed(segmentation, height, width)).astype(bool)


def segmentation_area(segmentation: Segmentation | None, height: int, width: int) -> float:
    """Pixels inside."""
    if segmentation is None:
        return 0.0
    from pycocotools import mask as mask_util

    return float(mask_util.area(compressed(segmentation, height, width)))
