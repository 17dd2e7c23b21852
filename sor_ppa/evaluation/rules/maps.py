"""MAE of painted maps, F-measure of rank levels, F and IoU of unions, and nDCG.

The docstring of a rule is its definition in ``definitions``.
"""

from __future__ import annotations

import math
from operator import mul

import numpy as np

from ...visualization.rank_maps import lowest_place_ranks
from ..group import FloatArray, Group
from ..image import ImageScores
from ..regions import draw_regions
from ..score import Score, counted, counted_or, skipped
from .gray import mean_gray

_DISCOUNT = [1 / math.log2(place + 2) for place in range(5)]


def gray_error(image: ImageScores, painter: str) -> Score:
    """Mean over pixels of |painted prediction - painted ground truth| / 255. The ground truth is painted as
    `gtn` for the maps `qagnet_n` and `map_n`, as `gt10` otherwise. No image is skipped; no prediction is a
    zero map."""
    return counted(image.shared(_gray_error, painter))


def _gray_error(group: Group, painter: str) -> list[float]:
    difference = np.abs(group.painted(painter).astype(np.int64) - group.painted_gt(painter))
    return (group.total(group.pixels * difference) / (255 * group.n_pixels)).tolist()


def binary_error(image: ImageScores, painter: str, *, lowest: int = 1) -> Score:
    """Share of pixels where one map is > 0 and the other is not."""
    return counted(image.shared(_binary_error, painter, lowest))


def _binary_error(group: Group, painter: str, lowest: int) -> list[float]:
    wrong = (group.painted(painter) >= lowest) != (group.painted_gt(painter) > 0)
    return (group.total(group.pixels * wrong) / group.n_pixels).tolist()


def union_error(image: ImageScores, painter: str) -> Score:
    """Mean over pixels of |pixelwise maximum of the raw prediction masks - union of the objects|, without
    ranks. No prediction is a zero map. An image without ground truth is skipped (the published code
    fails)."""
    if image.soft is None or not len(image.soft):
        return counted(image.shared(_union_error))
    target = image.regions.image(image.gt_union.astype(np.float64))
    wrong = np.abs(image.soft.max(axis=0).astype(np.float64) - target).sum()
    return counted(float(wrong) / image.regions.n_pixels)


def _union_error(group: Group) -> list[float]:
    wrong = group.gt.any(axis=1) != group.strict.any(axis=1)
    return (group.total(group.pixels * wrong) / group.n_pixels).tolist()


def level_error(image: ImageScores, painter: str, *, strict: bool = True) -> Score:
    """Both sides are painted in list order, later instances cover: an object with (rank + 1) / G, a
    prediction (mask > 0.5) with (number of strictly lower scores + 1) / P. Mean absolute difference; no
    image is skipped."""
    return counted(image.shared(_level_error, strict))


def _level_error(group: Group, strict: bool) -> list[float]:
    truth, predicted = group.once(_level_maps, strict)
    return (group.total(group.pixels * np.abs(truth - predicted)) / group.n_pixels).tolist()


def level_f(image: ImageScores, painter: str, *, strict: bool = True) -> Score:
    """Both sides are painted as for the MAE of that name. For each band (l, u] between neighboring distinct
    values of the painted ground truth: F of the predicted pixels in the band, 0 if none is hit. Mean over
    bands, then over images; an image without a band is skipped."""
    value = image.shared(_level_f, strict)
    return counted_or(skipped, value, "no band of levels")


def _level_f(group: Group, strict: bool) -> list[float]:
    # values in [0, 1] of image n become 2 n + value, so that one search finds the bands of all images
    truth, predicted = (values + 2 * group.owner for values in group.once(_level_maps, strict))
    edges = np.unique(truth)
    image = edges.astype(np.int64) // 2
    inner = np.append(False, image[1:] == image[:-1])  # band b holds what lies in (edge b - 1, edge b]
    gt, pred = (np.searchsorted(edges, values) for values in (truth, predicted))
    known = np.append(image, -1)[pred] == group.owner
    pred = np.where(known, pred, len(edges))
    both = np.where(gt == pred, gt, len(edges))
    positive, found, true = (
        np.bincount(band, group.pixels, len(edges) + 1)[:-1][inner] for band in (gt, pred, both)
    )
    # F = 1.3 P R / (0.3 P + R) with P = true / found and R = true / positive; 0 where nothing is true
    f = np.bincount(image[inner], 1.3 * true / (0.3 * positive + found), len(group))
    bands = np.bincount(image[inner], minlength=len(group))
    return np.where(bands > 0, f / np.maximum(bands, 1), np.nan).tolist()


def _level_maps(group: Group, strict: bool) -> tuple[FloatArray, FloatArray]:
    gt_order, pred_order = (
        np.broadcast_to(np.arange(n.shape[1]), n.shape) for n in (group.gt_ranks, group.scores)
    )
    levels = (group.gt_ranks + 1) / np.maximum(group.n_gt, 1)[:, None]
    truth = draw_regions((gt_order, levels), group.gt, group.owner)
    levels = lowest_place_ranks(group.scores) / np.maximum(group.n_pred, 1)[:, None]
    predicted = draw_regions((pred_order, levels), group.strict if strict else group.loose, group.owner)
    return truth.astype(np.float64), predicted.astype(np.float64)


def union_f(image: ImageScores, painter: str) -> Score:
    """F of the union of predictions (> 0.5) against the union of objects, 1e-6 added to each denominator,
    without ranks. An image without ground truth is skipped (the published code fails)."""
    both, predicted, truth = image.shared(_union_counts)
    precision, recall = both / (predicted + 1e-6), both / (truth + 1e-6)
    return counted(1.3 * precision * recall / (0.3 * precision + recall + 1e-6))


def union_iou(image: ImageScores, painter: str) -> Score:
    """Prediction masks are 1 where > 0.5; 1e-6 is added to the denominator. An image without ground truth is
    skipped (the published code fails)."""
    both, predicted, truth = image.shared(_union_counts)
    return counted(both / (predicted + truth - both + 1e-6))


def _union_counts(group: Group) -> list[list[float]]:
    gt, pred = group.gt.any(axis=1), group.strict.any(axis=1)
    return group.total(group.pixels[:, None] * np.stack([gt & pred, pred, gt], axis=1)).tolist()


def graded_ndcg(image: ImageScores, painter: str, *, exponential: bool = False) -> Score:
    """Mean gray value inside each full mask, holes as 0. The objects in descending order of it (equal: later
    in the list first) get grades 5, 4, 3, 2, 1; a zero mean gets 0. The true grade is 5 for the most salient
    level, one less for each level. Relevance is 5 - |true grade - predicted grade|, listed in descending
    true order (ties: later in the list first), so a missed object still earns 5 - its true grade. The gain
    is the relevance. DCG with discount 1 / log2(position + 1), divided by that of relevance 5 everywhere.
    Skipped without objects and with more than five (the published code fails)."""
    count = image.n_gt
    if count > 5:
        return skipped("more than five ground-truth objects")
    relevance = image.shared(_relevance, painter)
    gain, ideal = ([2**grade - 1 for grade in relevance], 31) if exponential else (relevance, 5)
    discount = _DISCOUNT[:count]
    return counted(sum(map(mul, gain, discount)) / (ideal * sum(discount)))


def _relevance(group: Group, painter: str) -> list[list[int]]:
    """Return the relevance of the objects of each image, of at most five, in descending true order."""
    found = []
    means = group.trimmed(group.once(mean_gray, painter))
    for mean, ranks in zip(means, group.trimmed(group.gt_ranks), strict=True):
        by_mean, by_rank = (
            [i for _, i in sorted(zip(of, range(len(of)), strict=True), reverse=True)] for of in (mean, ranks)
        )
        predicted = {index: 5 - place if mean[index] else 0 for place, index in enumerate(by_mean)}
        lowest = max(ranks, default=0) - 5
        found.append([5 - abs(ranks[index] - lowest - predicted[index]) for index in by_rank])
    return found
