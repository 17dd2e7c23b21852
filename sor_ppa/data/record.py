"""The record type that every dataset reader returns, its ranks and training labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .masks import Segmentation, encode_mask, segmentation_box, segmentation_mask

UNRANKED = -1
"""Rank of an object that has none (a crowd, or an object that is not salient)."""

RANK_RULES = ("top", "keep")
RANK_OVERFLOWS = ("lowest", "ignore")


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One object of an image.

    ``label`` is the dataset's own training label, which published code uses instead of the rank (ASSR: 4 for
    the most salient object, whatever the number of objects).
    """

    box: tuple[float, float, float, float]  # (x1, y1, x2, y2) in pixels
    segmentation: Segmentation | None  # None if the dataset has no mask
    rank: int = UNRANKED  # dense from 0 within the image, higher = more salient, ties share a rank
    iscrowd: bool = False  # whether the mask covers a group
    label: int | None = None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image with its objects in the order of the dataset."""

    file_name: str
    height: int  # pixels, after EXIF orientation
    width: int
    objects: tuple[ObjectRecord, ...]
    image_id: int  # unique in the split

    def masks(self) -> np.ndarray:
        """Return the masks (N, H, W), bool, of the objects."""
        masks = [segmentation_mask(item.segmentation, self.height, self.width) for item in self.objects]
        return np.array(masks, bool).reshape(-1, self.height, self.width)


def object_of_mask(mask: np.ndarray, rank: int = UNRANKED) -> ObjectRecord:
    """Return the record of an object with a mask (H, W), bool, that is not empty."""
    code = encode_mask(mask)
    return ObjectRecord(segmentation_box(code), code, rank)


def dense_ranks(values: Sequence[float]) -> list[int]:
    """Return ranks (N,) from 0 without gaps for N values, higher = more salient; equal values share one."""
    ranks = {value: rank for rank, value in enumerate(sorted(set(values)))}
    return [ranks[value] for value in values]


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
        annotation |= {"category_id": 0, "gt_rank": item.rank if item.label is None else item.label}
        if item.iscrowd:
            annotation.update(iscrowd=1, gt_rank=UNRANKED)
        annotations.append(annotation)
    image = {key: getattr(record, key) for key in ("file_name", "image_id", "height", "width")}
    return {**image, "annotations": annotations}


def training_ranks(
    ranks: Sequence[int], num_ranks: int, rule: str = "top", overflow: str = "lowest"
) -> np.ndarray:
    """Return rank labels 0 to K - 1 for training, (N,) int64; objects without a rank keep -1.

    Args:
        ranks: N ranks of the objects of one image, higher = more salient, -1 = none.
        num_ranks: K.
        rule: ``top``: the most salient object has the label K - 1, the next K - 2, and so on; ties share a
            label, and the next follows without a gap. On ASSR these are the published labels. ``keep``: the
            ranks of the dataset are the labels; if the highest exceeds K - 1, all move down together.
        overflow: of labels below 0 (more distinct ranks than K): ``lowest`` makes them 0, ``ignore`` makes
            them -1, which the ranking loss ignores.
    """
    labels = np.array(ranks, dtype=np.int64)
    ranked = labels != UNRANKED
    if not ranked.any():
        return labels
    values = labels[ranked]
    if rule == "top":
        values = np.array(dense_ranks(values.tolist()))
        values += num_ranks - 1 - values.max()
    else:
        values -= max(0, int(values.max()) - (num_ranks - 1))
    labels[ranked] = np.where(values >= 0, values, 0 if overflow == "lowest" else UNRANKED)
    return labels
