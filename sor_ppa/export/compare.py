"""Comparing the results of two predictors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..results import RankedImage

__all__ = ["Agreement", "compare_results"]

# float32 on another runtime: rounding only
_MOST_PIXELS, _LEAST_IOU = 1e-3, 0.999


@dataclass(frozen=True)
class Agreement:
    """How well results agree with those of PyTorch.

    Attributes:
        pictures: number of pictures.
        same_objects: share of pictures with the same objects: as many, each over another by box IoU > 0.5.
        same_ranks: share of pictures whose objects are the same and in the same order with the same ranks.
        box_error: largest difference of a side in pixels, over the pictures of ``same_ranks``.
        mask_iou: smallest IoU of two masks, over the same; masks that differ in one pixel count as equal.
    """

    pictures: int
    same_objects: float
    same_ranks: float
    box_error: float
    mask_iou: float

    @property
    def equal(self) -> bool:
        """Whether only rounding differs."""
        return self.same_ranks == 1 and self.box_error <= _MOST_PIXELS and self.mask_iou > _LEAST_IOU

    @property
    def usable(self) -> bool:
        """Whether a reduced precision finds the same objects in at least half of the pictures."""
        return self.same_objects >= 0.5

    def __str__(self) -> str:
        return (
            f"{self.pictures} pictures: same objects in {self.same_objects:.1%}, same ranks in "
            f"{self.same_ranks:.1%}; boxes within {self.box_error:.2g} px, "
            f"mask IoU at least {self.mask_iou:.4f}"
        )


def compare_results(pairs: Iterable[tuple[RankedImage, RankedImage]]) -> Agreement:
    """Return how well pairs of results for the same pictures agree."""
    objects, ranks, errors, overlaps = [], [], [0.0], [1.0]
    for expected, found in pairs:
        boxes = [np.array([o.box for o in x.objects]).reshape(-1, 4) for x in (expected, found)]
        same = len(boxes[0]) == len(boxes[1])
        overlap = _box_iou(*boxes) > 0.5
        objects.append(same and bool(overlap.any(axis=0).all() and overlap.any(axis=1).all()))
        equal = same and bool(np.diagonal(overlap).all() and (expected.ranks == found.ranks).all())
        ranks.append(equal)
        if equal and len(boxes[0]):
            errors.append(float(np.abs(boxes[0] - boxes[1]).max()))
            overlaps.append(_least_mask_iou(expected.masks, found.masks))
    number = max(len(ranks), 1)
    return Agreement(len(ranks), sum(objects) / number, sum(ranks) / number, max(errors), min(overlaps))


def _box_iou(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the IoU of every pair, (N, M)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clip(0).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (first, second)]
    return common / np.maximum(areas[0][:, None] + areas[1] - common, 1e-9)


def _least_mask_iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    common = (first & second).sum(axis=(1, 2))
    either = (first | second).sum(axis=(1, 2))
    common = np.where(either - common == 1, either, common)  # a pixel on the threshold of a small mask
    return float(np.where(either, common / np.maximum(either, 1), 1.0).min())
