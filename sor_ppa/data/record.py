"""The record type that every dataset reader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "UNRANKED",
    "ImageRecord",
    "ObjectRecord",
    "Segmentation",
    "dense_ranks",
    "segmentation_box",
    "to_detectron2",
]

UNRANKED = -1
"""Rank of an object that has none (a crowd, or an object that is not salient)."""

Segmentation = list[list[float]] | dict[str, Any]
"""COCO polygons (``[[x1, y1, x2, y2, ...], ...]``, pixels) or COCO RLE (``size``, ``counts``)."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object of an image.

    Attributes:
        box: (x1, y1, x2, y2) in pixels.
        segmentation: polygons or RLE; None where the dataset has no mask.
        rank: dense from 0 within the image, higher = more salient, ties share a rank;
            ``UNRANKED`` where there is none.
        iscrowd: whether the mask covers a group.
        label: the dataset's own label where published code trains on it (ASSR: 4 for the most
            salient object, whatever their number); None: the rank is the label.
    """

    box: tuple[float, float, float, float]
    segmentation: Segmentation | None
    rank: int = UNRANKED
    iscrowd: bool = False
    label: int | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image with its objects.

    Attributes:
        file_name: path of the image.
        height, width: size in pixels, as shown (EXIF orientation applied).
        objects: in the order of the dataset.
        image_id: unique in the split.
    """

    file_name: str
    height: int
    width: int
    objects: tuple[ObjectRecord, ...]
    image_id: int


def dense_ranks(values: Sequence[float]) -> list[int]:
    """Ranks from 0 (smallest value), without gaps; equal values share a rank.

    Args:
        values: N salience values, higher = more salient.

    Returns:
        N ranks.
    """
    if not len(values):
        return []
    return np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)[1].ravel().tolist()


def segmentation_box(segmentation: Segmentation) -> tuple[float, float, float, float]:
    """XYXY box around polygons or RLE, in pixels."""
    if isinstance(segmentation, dict):
        from pycocotools import mask as mask_util

        if isinstance(segmentation["counts"], list):
            segmentation = mask_util.frPyObjects(segmentation, *segmentation["size"])
        x, y, width, height = mask_util.toBbox(segmentation).tolist()
        return x, y, x + width, y + height
    points = np.concatenate([np.asarray(polygon, dtype=np.float64) for polygon in segmentation])
    x, y = points[0::2], points[1::2]
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def to_detectron2(record: ImageRecord) -> dict[str, Any]:
    """A record in detectron2's dataset format.

    Returns:
        ``file_name, image_id, height, width`` and ``annotations``, each with ``bbox`` (XYXY, pixels),
        ``bbox_mode``, ``segmentation``, ``category_id`` 0 and ``gt_rank`` (higher = more salient, -1 =
        none; the dataset's own label where it has one). Crowds carry ``iscrowd`` 1.
    """
    from detectron2.structures import BoxMode

    mode = BoxMode.XYXY_ABS
    annotations = []
    for item in record.objects:
        annotation: dict[str, Any] = {"bbox": list(item.box), "bbox_mode": mode}
        if item.segmentation is not None:
            annotation["segmentation"] = item.segmentation
        annotation["category_id"] = 0
        annotation["gt_rank"] = item.rank if item.label is None else item.label
        if item.iscrowd:
            annotation["iscrowd"] = 1
            annotation["gt_rank"] = UNRANKED
        annotations.append(annotation)
    return {
        "file_name": record.file_name,
        "image_id": record.image_id,
        "height": record.height,
        "width": record.width,
        "annotations": annotations,
    }
