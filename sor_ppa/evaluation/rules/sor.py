"""SOR: Spearman's correlation of ranks, mapped from [-1, 1] to [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..image import ImageScores
from ..score import Score, counted, counted_or, nan_as_0, skipped
from .sa_sor import UNDEFINED, spearman

NOTHING_LEFT = "no object has a predicted rank"


def sor_of_modal_gray(
    image: ImageScores, painter: str, *, coverage: float = 0.5, keep_last: bool = True
) -> Score:
    """(1) The predicted value of an object is the most frequent nonzero gray value inside its full mask (the
    smallest of equally frequent ones) if more than trunc(0.5 area) of its pixels are painted, otherwise 0.
    There is no IoU and no one-to-one rule. (2) Objects with predicted value 0 are dropped. (3) Two or more
    left: Spearman's correlation with the true values; the image is skipped if one side is constant. One
    left: 1, however many objects the image has. None left: skipped.

    Args:
        coverage: the share of (1).
        keep_last: False drops the least salient objects (rank 0).
    """
    values, counts = image.gray_inside(painter)
    if values[0] == 0:
        values, counts = values[1:], counts[:, 1:]
    predicted = np.zeros(image.n_gt)
    if len(values):
        enough = counts.sum(axis=1) > np.trunc(image.gt_areas * coverage)
        predicted = np.where(enough, values[counts.argmax(axis=1)], 0)
    kept = predicted > 0
    if not keep_last:
        kept &= image.gt_ranks > 0
    return _correlate(image.gt_ranks[kept], predicted[kept], one_is_perfect=True)


def sor_of_mean_gray(image: ImageScores, painter: str) -> Score:
    """The predicted value of an object is the mean gray value over its full mask, holes as 0. Objects with
    mean 0 are dropped. Two or more left: Spearman's correlation, skipped if one side is constant. Fewer:
    skipped. Also the usual way to rank objects by a plain saliency map."""
    predicted = mean_gray_values(image, painter)
    kept = predicted > 0
    return _correlate(image.gt_ranks[kept], predicted[kept], one_is_perfect=False)


def mean_gray_values(image: ImageScores, painter: str) -> NDArray[np.float64]:
    """Return the (G,) mean painted value inside each ground-truth mask, holes as 0; 0 for an empty mask."""
    values, counts = image.gray_inside(painter)
    return counts @ values.astype(np.float64) / np.maximum(image.gt_areas, 1)


def sor_of_first_match(image: ImageScores, painter: str) -> Score:
    """For each object the most salient prediction with IoU > 0.5 (denominator + 1e-6); several objects may
    share one. Spearman's correlation of positions. One match gives 1; no match or constant positions add 0
    and count. An image without ground truth is skipped (the published code fails)."""
    good = image.iou_eps[image.gt_order][:, image.pred_order] > 0.5
    rows = np.flatnonzero(good.any(axis=1))
    if len(rows) == 0:
        return nan_as_0("no match")
    if len(rows) == 1:
        return counted(1.0)
    value = spearman((-rows).tolist(), (-good[rows].argmax(axis=1)).tolist())
    return counted_or(nan_as_0, (value + 1) / 2, UNDEFINED)


def sor_of_levels(image: ImageScores, painter: str) -> Score:
    """The objects are the distinct nonzero gray levels of the painted ground truth (hidden pixels and tied
    objects merge), and positions among the gray levels are correlated as in `assr`."""
    truth, gray = image.painted_gt(painter), image.painted(painter)
    gt_level = truth[:, None] == np.unique(truth[truth > 0])
    values = np.unique(gray[gray > 0])
    pixels = image.regions.pixels.astype(np.float64)
    inside = (gt_level * pixels[:, None]).T @ (gray[:, None] == values)
    if inside.size == 0:
        return skipped(NOTHING_LEFT)
    level = np.flatnonzero(inside.sum(axis=1) > np.trunc(pixels @ gt_level * 0.5))
    return _correlate(level, inside[level].argmax(axis=1), one_is_perfect=True)


def _correlate(gt: NDArray, predicted: NDArray, *, one_is_perfect: bool) -> Score:
    if len(gt) == 0:
        return skipped(NOTHING_LEFT)
    if len(gt) == 1:
        return counted(1.0) if one_is_perfect else skipped("one object has a predicted rank")
    return counted_or(skipped, (spearman(gt.tolist(), predicted.tolist()) + 1) / 2, "ranks all equal")
