"""SOR: Spearman's correlation of ranks, mapped from [-1, 1] to [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .correlation import spearman
from .image import ImageScores
from .rules_sa_sor import NO_GT, UNDEFINED
from .score import Score, counted, counted_or_nan_as_0, counted_or_skipped, nan_as_0, skipped

NOTHING_LEFT = "no object has a predicted rank"


def modal_grey(
    image: ImageScores,
    painter: str,
    *,
    coverage: float = 0.5,
    integer_ranks: bool = False,
    drop_rank0: bool = True,
) -> Score:
    """ASSR's SOR: the most frequent grey value inside each object (see ``variants``).

    Args:
        image: the image.
        painter: the painted map.
        coverage: an object has a predicted value if more than trunc(coverage * area) pixels are painted.
        integer_ranks: ground-truth values are the integer ranks from 0 instead of 1.0, 0.9, ...
        drop_rank0: drop objects whose ground-truth value is 0.
    """
    values, counts = image.grey_inside(painter)
    if values[0] == 0:
        values, counts = values[1:], counts[:, 1:]
    predicted = np.zeros(image.n_gt)
    if len(values):
        enough = counts.sum(axis=1) > np.trunc(image.gt_areas * coverage)
        predicted = np.where(enough, values[counts.argmax(axis=1)], 0)
    kept = predicted > 0
    if integer_ranks and drop_rank0:
        kept &= image.gt_ranks > 0
    return _correlate(image.gt_ranks[kept], predicted[kept], one_is_perfect=True)


def mean_grey(image: ImageScores, painter: str) -> Score:
    """The IJCV extension's SOR: mean painted value over each whole object."""
    predicted = mean_grey_values(image, painter)
    kept = predicted > 0
    return _correlate(image.gt_ranks[kept], predicted[kept], one_is_perfect=False)


def mean_grey_values(image: ImageScores, painter: str) -> NDArray[np.float64]:
    """(G,) mean painted value inside each ground-truth mask, holes as 0; 0 for an empty mask."""
    values, counts = image.grey_inside(painter)
    return counts @ values.astype(np.float64) / np.maximum(image.gt_areas, 1)


def seqrank(image: ImageScores, painter: str, *, count_no_gt: bool = False) -> Score:
    """SeqRank's SOR: for each object the most salient prediction with IoU > 0.5, which may be shared."""
    if image.n_gt == 0:
        return nan_as_0(NO_GT) if count_no_gt else skipped(NO_GT)
    good = image.iou_eps[image.gt_order][:, image.pred_order] > 0.5
    rows = np.flatnonzero(good.any(axis=1))
    if len(rows) == 0:
        return nan_as_0("no match")
    if len(rows) == 1:
        return counted(1.0)
    value = spearman(image.n_gt - rows, image.n_pred - good[rows].argmax(axis=1))
    return counted_or_nan_as_0((value + 1) / 2, UNDEFINED)


def sr_old(image: ImageScores, painter: str) -> Score:
    """ASSR's rule on the grey levels of the painted ground-truth map instead of the objects."""
    truth, grey = image.painted_gt(painter), image.painted(painter)
    gt_level = truth[:, None] == np.unique(truth[truth > 0])
    values = np.unique(grey[grey > 0])
    pixels = image.regions.pixels.astype(np.float64)
    inside = (gt_level * pixels[:, None]).T @ (grey[:, None] == values)
    if inside.size == 0:
        return skipped(NOTHING_LEFT if image.n_gt else NO_GT)
    level = np.flatnonzero(inside.sum(axis=1) > np.trunc(pixels @ gt_level * 0.5))
    return _correlate(level, inside[level].argmax(axis=1), one_is_perfect=True)


def _correlate(gt: NDArray, predicted: NDArray, *, one_is_perfect: bool) -> Score:
    if len(gt) == 0:
        return skipped(NOTHING_LEFT)
    if len(gt) == 1:
        return counted(1.0) if one_is_perfect else skipped("one object has a predicted rank")
    return counted_or_skipped((spearman(gt, predicted) + 1) / 2, "ranks all equal")
