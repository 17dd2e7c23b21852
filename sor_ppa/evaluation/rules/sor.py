"""SOR: Spearman's correlation of ranks, mapped from [-1, 1] to [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..image import ImageScores
from ..score import Score, counted, counted_or, nan_as_0, skipped
from .gray import gray_levels, mean_gray, modal_gray, most_frequent
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
    modal = image.once(modal_gray, image.painted(painter).tobytes())
    objects = zip(image.gt_ranks.tolist(), image.gt_areas.tolist(), modal, strict=True)
    pairs = [
        (rank, value)
        for rank, area, (value, painted) in objects
        if painted > int(area * coverage) and (keep_last or rank > 0)
    ]
    return _correlate(pairs, one_is_perfect=True)


def sor_of_mean_gray(image: ImageScores, painter: str) -> Score:
    """The predicted value of an object is the mean gray value over its full mask, holes as 0. Objects with
    mean 0 are dropped. Two or more left: Spearman's correlation, skipped if one side is constant. Fewer:
    skipped. Also the usual way to rank objects by a plain saliency map."""
    means = image.once(mean_gray, image.painted(painter).tobytes())
    pairs = [pair for pair in zip(image.gt_ranks.tolist(), means, strict=True) if pair[1] > 0]
    return _correlate(pairs, one_is_perfect=False)


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
    pairs: list[tuple[float, float]] = []
    for level, row in image.once(gray_levels, painter).items():
        painted = {value: count for value, count in row.items() if value > 0}
        if level > 0 and sum(painted.values()) > sum(row.values()) // 2:
            pairs.append((level, most_frequent(painted)))
    return _correlate(pairs, one_is_perfect=True)


def _correlate(pairs: Sequence[tuple[float, float]], *, one_is_perfect: bool) -> Score:
    """Return the score of true and predicted values of the objects that are left."""
    if len(pairs) == 0:
        return skipped(NOTHING_LEFT)
    if len(pairs) == 1:
        return counted(1.0) if one_is_perfect else skipped("one object has a predicted rank")
    return counted_or(skipped, (spearman(*zip(*pairs, strict=True)) + 1) / 2, "ranks all equal")
