"""From scored candidates to objects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from ..data.masks import mask_box

__all__ = ["box_iou", "box_of", "same_box", "select_objects", "separate", "vote"]

_VOTED = 400  # candidates with the best scores of their own
_INSIDE = 0.7  # share of the smaller of two regions in the larger one, from which they are nested
_PART = 0.2  # area of a nested region, as a fraction of the other, below which it is a part
_SAME_BOX = 0.75  # box IoU of a region before and after it loses pixels, from which its extent is the same


def box_iou(boxes: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the (N, M) IoU of boxes (N, 4) and (M, 4), left, top, right, bottom."""
    low = np.maximum(boxes[:, None, :2], others[:, :2])
    high = np.minimum(boxes[:, None, 2:], others[:, 2:])
    common = np.maximum(high - low, 0).prod(2)
    area, other = ((b[:, 2:] - b[:, :2]).prod(1) for b in (boxes, others))
    return common / (area[:, None] + other - common)


def vote(
    boxes: NDArray[np.float32], scores: NDArray[np.float64], iou: float, share: float
) -> NDArray[np.float64]:
    """Mix the score of each candidate with the mean score of all that overlap it.

    Candidates of all segmentations vote together; a score that one lucky outline owes to chance shrinks.

    Args:
        boxes: (N, 4).
        scores: (N,).
        iou: box overlap from which candidates count as the same object.
        share: of the mean, in [0, 1].

    Returns:
        (N,) scores; minus infinity for candidates far from the best, which nobody chooses.
    """
    result = np.full(len(scores), -np.inf)
    best = np.argsort(-scores, kind="stable")[:_VOTED]
    same = box_iou(boxes[best], boxes) > iou
    result[best] = share * (same @ scores) / same.sum(1) + (1 - share) * scores[best]
    return result


def select_objects(
    boxes: NDArray[np.float32],
    order: Sequence[int],
    mask: Callable[[int], NDArray[np.bool_]],
    iou: float,
    count: int,
) -> tuple[list[int], list[NDArray[np.bool_]]]:
    """Choose candidates greedily; return their indices and masks.

    Args:
        boxes: (N, 4).
        order: indices of candidates, best first.
        mask: returns the (H, W) bool mask of a candidate.
        iou: box IoU above which the lower of two candidates is dropped.
        count: most candidates to choose.
    """
    chosen: list[int] = []
    masks: list[NDArray[np.bool_]] = []
    dropped = np.zeros(len(boxes), bool)
    for index in order:
        if len(chosen) == count:
            break
        if dropped[index]:
            continue
        new = mask(index)
        # half the resolution is enough to tell parts
        if not any(_is_part(new[::2, ::2], other[::2, ::2]) for other in masks):
            chosen.append(index)
            masks.append(new)
            dropped |= box_iou(boxes[[index]], boxes)[0] > iou
    return chosen, masks


def _is_part(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> bool:
    """Return whether one of two regions is a part: it lies in the other, and is small or does
    not change the other's box."""
    small, large = (a, b) if np.count_nonzero(a) < np.count_nonzero(b) else (b, a)
    if np.count_nonzero(small & large) < _INSIDE * np.count_nonzero(small):
        return False
    if np.count_nonzero(small) < _PART * np.count_nonzero(large):
        return True
    return same_box(large, _largest(large & ~small))


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of a mask in pixels; zeros for an empty one."""
    return mask_box(mask) or (0, 0, 0, 0)


def separate(masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Give contested pixels to the better of two objects, where the other keeps its extent without them.

    Args:
        masks: (H, W) bool each, best first.
    """
    result = list(masks)
    for i, better in enumerate(masks):
        for k in range(i + 1, len(masks)):
            if not (better & result[k]).any():
                continue
            rest = _largest(result[k] & ~better)
            if same_box(result[k], rest):
                result[k] = rest
    return result


def same_box(a: NDArray[np.bool_], b: NDArray[np.bool_], iou: float = _SAME_BOX) -> bool:
    """Return whether the boxes of two masks overlap by more than an IoU."""
    boxes = np.array([box_of(a), box_of(b)], np.float32)
    return bool(box_iou(boxes[:1], boxes[1:])[0, 0] > iou)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    if count < 2:
        return mask
    return labels == 1 + stats[1:, cv2.CC_STAT_AREA].argmax()
