"""SOR: Spearman's correlation of ranks, mapped from [-1, 1] to [0, 1]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..group import Group
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
    return image.shared(_of_modal_gray, painter, coverage, keep_last)


def _of_modal_gray(group: Group, painter: str, coverage: float, keep_last: bool) -> list[Score]:
    values, painted = group.once(modal_gray, painter)
    kept = painted > np.trunc(group.gt_areas * coverage)
    if not keep_last:
        kept &= group.gt_ranks > 0
    return _correlations(group.gt_ranks, values, kept, one_is_perfect=True)


def sor_of_mean_gray(image: ImageScores, painter: str) -> Score:
    """The predicted value of an object is the mean gray value over its full mask, holes as 0. Objects with
    mean 0 are dropped. Two or more left: Spearman's correlation, skipped if one side is constant. Fewer:
    skipped. Also the usual way to rank objects by a plain saliency map."""
    return image.shared(_of_mean_gray, painter)


def _of_mean_gray(group: Group, painter: str) -> list[Score]:
    means = group.once(mean_gray, painter)
    return _correlations(group.gt_ranks, means, means > 0, one_is_perfect=False)


def sor_of_first_match(image: ImageScores, painter: str) -> Score:
    """For each object the most salient prediction with IoU > 0.5 (denominator + 1e-6); several objects may
    share one. Spearman's correlation of positions. One match gives 1; no match or constant positions add 0
    and count. An image without ground truth is skipped (the published code fails)."""
    best = image.shared(_first_matches)
    rows = [row for row, column in enumerate(best) if column >= 0]
    if len(rows) < 2:
        return counted(1.0) if rows else nan_as_0("no match")
    value = spearman(rows, [best[row] for row in rows])
    return counted_or(nan_as_0, (value + 1) / 2, UNDEFINED)


def _first_matches(group: Group) -> list[list[int]]:
    """Return the place of the first good prediction of each object, both from the most salient; -1 = none."""
    good = group.ordered_iou_eps > 0.5
    return group.trimmed(np.where(good.any(axis=2), good.argmax(axis=2), -1))


def sor_of_levels(image: ImageScores, painter: str) -> Score:
    """The objects are the distinct nonzero gray levels of the painted ground truth (hidden pixels and tied
    objects merge), and positions among the gray levels are correlated as in `assr`."""
    levels, values = [], []
    for level, row in image.shared(gray_levels, painter).items():
        painted = {value: count for value, count in row.items() if value > 0}
        if level > 0 and sum(painted.values()) > sum(row.values()) // 2:
            levels.append(level)
            values.append(most_frequent(painted))
    return _score(len(levels), spearman(levels, values), one_is_perfect=True)


def _correlations(
    true: NDArray, predicted: NDArray, kept: NDArray[np.bool_], *, one_is_perfect: bool
) -> list[Score]:
    """Return the score of each image from true and predicted values (N, G) of the objects that are left."""
    both = np.stack([true, predicted], axis=1)  # (N, 2, G)
    lower, equal = (f(both[:, :, None], both[..., None]) & kept[:, None, None] for f in (np.less, np.equal))
    ranks = (lower.sum(axis=3) + equal.sum(axis=3) / 2) * kept[:, None]  # average ranks less 1/2
    count = kept.sum(axis=1)
    ranks -= (ranks.sum(axis=2) / count.clip(min=1)[:, None])[..., None]
    ranks *= kept[:, None]
    products = ranks @ ranks.transpose(0, 2, 1)
    with np.errstate(invalid="ignore"):
        values = products[:, 0, 1] / np.sqrt(products[:, 0, 0] * products[:, 1, 1])
    pairs = zip(count.tolist(), values.clip(-1, 1).tolist(), strict=True)
    return [_score(number, value, one_is_perfect=one_is_perfect) for number, value in pairs]


def _score(count: int, correlation: float, *, one_is_perfect: bool) -> Score:
    """Return the score of an image with a number of objects left."""
    if count == 0:
        return skipped(NOTHING_LEFT)
    if count == 1:
        return counted(1.0) if one_is_perfect else skipped("one object has a predicted rank")
    return counted_or(skipped, (correlation + 1) / 2, "ranks all equal")
