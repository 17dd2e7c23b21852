"""SA-SOR: Pearson's correlation of ranks after matching instances by mask IoU.

The docstring of a rule is its definition in ``definitions``.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from operator import mul

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ..group import Group
from ..image import ImageScores
from ..score import Score, counted, counted_or, nan_as_0, skipped
from .gray import gray_levels, most_frequent

UNDEFINED = "correlation undefined"


def sa_sor_of_best_match(
    image: ImageScores,
    painter: str,
    *,
    iou: float = 0.5,
    confidence: float | None = None,
    list_order: bool = False,
) -> Score:
    """(1) Images with fewer than two objects are skipped. (2) Prediction masks are 1 where > 0.5. Each
    object takes the prediction with the highest IoU, and loses it if that IoU is < 0.5. There is no second
    choice. (3) Of several objects with the same prediction, the one with the highest IoU keeps it; the
    others are unmatched. Equal IoUs go to the more salient, then to the earlier in the list. (4) Ranked
    predictions are the matched ones, and all others too only if there are more predictions than objects.
    (5) The predicted rank of a matched object is 1 + the number of ranked predictions with a strictly lower
    score; that of an unmatched object is 0. The true rank is 1 + the number of objects with a strictly
    lower rank. (6) The value is 0 if all predicted ranks are equal, otherwise Pearson's correlation over
    the objects. The image is skipped if all true ranks are equal.

    Args:
        iou: the threshold of (2).
        confidence: ignore predictions whose confidence is not above this.
        list_order: put equal scores in list order.
    """
    if image.n_gt == 1:
        return skipped("one ground-truth object")
    own, overlap = image.scores.tolist(), image.shared(iou_lists)
    if list_order:
        places = np.argsort(-image.scores, kind="stable").tolist()
        own = [-float(places.index(p)) for p in range(len(own))]
    if confidence is not None:
        if image.confidences is None:
            raise ValueError(f"pred_confidences: expected for confidence > {confidence:g}, found none")
        kept = np.flatnonzero(image.confidences > confidence).tolist()
        own, overlap = [own[p] for p in kept], [[row[p] for p in kept] for row in overlap]
    truth = image.gt_ranks.tolist()
    matched = match_best(overlap, iou, own, truth)
    ranked = sorted(own if len(own) > len(truth) else [own[m] for m in matched if m >= 0])
    predicted = tuple([0 if m < 0 else 1 + bisect_left(ranked, own[m]) for m in matched])
    if min(predicted) == max(predicted):
        return counted(0.0)
    ordered = sorted(truth)
    value = pearson(tuple([1 + bisect_left(ordered, rank) for rank in truth]), predicted)
    return counted_or(skipped, value, "all ground-truth ranks equal")


def iou_lists(group: Group) -> list[list[list[float]]]:
    """Return the IoU of each image as a list of G lists of P numbers."""
    return group.trimmed(group.iou)


def match_best(
    iou: Sequence[Sequence[float]], threshold: float, scores: Sequence[float], gt_ranks: Sequence[int]
) -> list[int]:
    """Return the prediction of each of G objects, -1 = unmatched, from IoU (G, P), scores (P) and ranks (G).

    Each object takes its best prediction; each prediction keeps its best object. Equal IoUs are decided by
    saliency, then by list order.
    """
    claims: dict[int, tuple[float, int, int]] = {}
    for index, row in enumerate(iou):
        best = max(row, default=-1.0)
        if best >= threshold:
            choice = row.index(best)
            if row.count(best) > 1:
                choice = max((p for p, value in enumerate(row) if value == best), key=scores.__getitem__)
            claim = (best, gt_ranks[index], -index)
            claims[choice] = max(claim, claims.get(choice, claim))
    matched = [-1] * len(iou)
    for choice, (_, _, place) in claims.items():
        matched[-place] = choice
    return matched


def sa_sor_of_assignment(image: ImageScores, painter: str, *, greedy: bool = False) -> Score:
    """Predictions and objects are in descending saliency, ties in list order. IoU is intersection / (union
    + 1e-6). One-to-one assignment of the highest total IoU over all pairs; then pairs with IoU > 0.5 are
    kept. The predicted rank is the number of predictions - position, unmatched 0. Pearson's correlation
    with the number of objects - position; undefined (one object, no match) adds 0 and counts. An image
    without ground truth is skipped (the published code fails).

    Args:
        greedy: take pairs by descending IoU.
    """
    overlap = image.group.ordered_iou_eps[image.place, : image.n_gt, : image.n_pred]
    if greedy:
        rows, columns = _match_greedily(overlap, 0.5)
    else:
        rows, columns = linear_sum_assignment(1.0 - overlap)
        good = overlap[rows, columns] > 0.5
        rows, columns = rows[good], columns[good]
    predicted = np.zeros(image.n_gt, np.int64)
    predicted[rows] = image.n_pred - columns
    return counted_or(nan_as_0, pearson((*range(image.n_gt, 0, -1),), (*predicted.tolist(),)), UNDEFINED)


def _match_greedily(
    overlap: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows and columns of (G, P) paired one to one by descending IoU above the threshold.

    Equal IoUs: earlier column, then earlier row.
    """
    columns, rows = np.nonzero(threshold < overlap.T)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    column_of: dict[int, int] = {}
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in column_of and column not in column_of.values():
            column_of[row] = column
    return np.array([*column_of], np.int64), np.array([*column_of.values()], np.int64)


def sa_sor_of_levels(image: ImageScores, painter: str) -> Score:
    """Instances are the distinct nonzero gray levels of the painted ground truth. The prediction of a level
    is the most frequent painted value inside it, background included (the smallest of equally frequent
    ones). The pixels of exactly that value must reach IoU >= 0.5 (denominator + 1e-6). Background never
    matches. One-to-one, greedily by IoU; of equal IoUs the brighter level first. Ranks are positions among
    the distinct gray levels, unmatched 0. Pearson's correlation; undefined adds 0 and counts."""
    table = image.shared(gray_levels, painter)
    areas: Counter[int] = Counter()
    for row in table.values():
        areas.update(row)
    claims: dict[int, tuple[float, int]] = {}  # the best level of each value
    levels = sorted(table.keys() - {0})
    for level in levels:
        row = table[level]
        value = most_frequent(row)
        quality = row[value] / (sum(row.values()) + areas[value] - row[value] + 1e-6)
        if value > 0 and quality >= 0.5:
            claims[value] = max((quality, level), claims.get(value, (0.0, 0)))
    places = {level: value for value, (_, level) in claims.items()}
    values = sorted(areas.keys() | {0})
    predicted = tuple([values.index(places.get(level, 0)) for level in levels])
    return counted_or(nan_as_0, pearson((*range(1, len(levels) + 1),), predicted), UNDEFINED)


@lru_cache(maxsize=4096)  # images have few objects, so the same orders come again and again
def pearson(x: tuple[float, ...], y: tuple[float, ...]) -> float:
    """Return Pearson's correlation of n numbers; NaN for fewer than two or where one side is constant."""
    count = len(x)
    if count < 2 or min(x) == max(x) or min(y) == max(y):
        return math.nan
    mean_x, mean_y = sum(x) / count, sum(y) / count
    a, b = [value - mean_x for value in x], [value - mean_y for value in y]
    spread = math.sqrt(sum(map(mul, a, a)) * sum(map(mul, b, b)))
    return min(1.0, max(-1.0, sum(map(mul, a, b)) / spread))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's rank correlation: Pearson's on average ranks."""
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(x: Sequence[float]) -> tuple[float, ...]:
    """Return ranks from 1 in ascending order; equal numbers share the mean of their places."""
    ordered = sorted(x)
    return tuple([(bisect_left(ordered, value) + bisect_right(ordered, value) + 1) / 2 for value in x])
