"""The record type that every dataset reader returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .masks import Segmentation

UNRANKED = -1
"""Rank of an object that has none (a crowd, or an object that is not salient)."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object of an image.

    Attributes:
        box: (x1, y1, x2, y2) in pixels.
        segmentation: COCO polygons or RLE; None if the dataset has no mask.
        rank: dense from 0 within the image, higher = more salient, ties share a rank; ``UNRANKED``
            if there is none.
        iscrowd: whether the mask covers a group.
        label: the dataset's own training label, which published code uses instead of the rank (ASSR:
            4 for the most salient object, whatever the number of objects); None: the rank is the label.
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
        height, width: size in pixels after EXIF orientation.
        objects: in the order of the dataset.
        image_id: unique in the split.
    """

    file_name: str
    height: int
    width: int
    objects: tuple[ObjectRecord, ...]
    image_id: int


def dense_ranks(values: Sequence[float]) -> list[int]:
    """Return ranks (N,) from 0 without gaps; equal values share a rank.

    Args:
        values: N salience values, higher = more salient.
    """
    if not len(values):
        return []
    return np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)[1].ravel().tolist()


def to_detectron2(record: ImageRecord) -> dict[str, Any]:
    """Return a record in detectron2's dataset format.

    Returns:
        ``file_name, image_id, height, width`` and ``annotations``, each with ``bbox`` (XYXY, pixels),
        ``bbox_mode``, ``segmentation``, ``category_id`` 0 and ``gt_rank`` (higher = more salient, -1 =
        none; the dataset's own label if it has one). Crowds have ``iscrowd`` 1.
    """
    annotations = []
    for item in record.objects:
        annotation: dict[str, Any] = {"bbox": list(item.box), "bbox_mode": BoxMode.XYXY_ABS}
        if item.segmentation is not None:
            annotation["segmentation"] = item.segmentation
        annotation["category_id"] = 0
        annotation["gt_rank"] = item.rank if item.label is None else item.label
        if item.iscrowd:
            annotation.update(iscrowd=1, gt_rank=UNRANKED)
        annotations.append(annotation)
    return {
        "file_name": record.file_name,
        "image_id": record.image_id,
        "height": record.height,
        "width": record.width,
        "annotations": annotations,
    }
