"""MAE of painted maps, F-measure of rank levels, F and IoU of unions, and nDCG.

The docstring of a rule is its definition in ``definitions``.
"""

from __future__ import annotations

import numpy as np

from ...visualization.rank_maps import lowest_place_ranks
from ..image import FloatArray, ImageScores
from ..regions import draw_regions
from ..score import Score, counted, skipped
from .gray import mean_gray


def gray_error(image: ImageScores, painter: str) -> Score:
    """Mean over pixels of |painted prediction - painted ground truth| / 255. The ground truth is painted as
    `gtn` for the maps `qagnet_n` and `map_n`, as `gt10` otherwise. No image is skipped; no prediction is a
    zero map."""
    difference = np.abs(image.painted(painter).astype(np.int64) - image.painted_gt(painter))
    return counted(float(image.regions.pixels @ difference) / (255 * image.regions.n_pixels))


def binary_error(image: ImageScores, painter: str, *, lowest: int = 1) -> Score:
    """Share of pixels where one map is > 0 and the other is not."""
    wrong = (image.painted(painter) >= lowest) != (image.painted_gt(painter) > 0)
    return counted(float(image.regions.pixels[wrong].sum()) / image.regions.n_pixels)


def union_error(image: ImageScores, painter: str) -> Score:
    """Mean over pixels of |pixelwise maximum of the raw prediction masks - union of the objects|, without
    ranks. No prediction is a zero map. An image without ground truth is skipped (the published code
    fails)."""
    return counted(image.mask_error)


def level_error(image: ImageScores, painter: str, *, strict: bool = True) -> Score:
    """Both sides are painted in list order, later instances cover: an object with (rank + 1) / G, a
    prediction (mask > 0.5) with (number of strictly lower scores + 1) / P. Mean absolute difference; no
    image is skipped."""
    truth, predicted = image.once(_level_maps, strict)
    return counted(float(image.regions.pixels @ np.abs(truth - predicted)) / image.regions.n_pixels)


def level_f(image: ImageScores, painter: str, *, strict: bool = True) -> Score:
    """Both sides are painted as for the MAE of that name. For each band (l, u] between neighboring distinct
    values of the painted ground truth: F of the predicted pixels in the band, 0 if none is hit. Mean over
    bands, then over images; an image without a band is skipped."""
    truth, predicted = image.once(_level_maps, strict)
    edges = np.unique(truth)
    if len(edges) == 1:
        return skipped("no band of levels")
    bands = np.arange(1, len(edges))  # band b holds what lies in (edge b - 1, edge b]
    gt, pred = (np.searchsorted(edges, values)[:, None] == bands for values in (truth, predicted))
    pixels = image.regions.pixels.astype(np.float64)
    positive, found, true = pixels @ gt, pixels @ pred, pixels @ (gt & pred)
    # F = 1.3 P R / (0.3 P + R) with P = true / found and R = true / positive; 0 where nothing is true
    return counted(float(np.mean(1.3 * true / (0.3 * positive + found))))


def _level_maps(image: ImageScores, strict: bool) -> tuple[FloatArray, FloatArray]:
    gt_order, pred_order = np.arange(image.n_gt), np.arange(image.n_pred)
    truth = draw_regions((gt_order, (image.gt_ranks + 1) / max(1, image.n_gt)), image.gt)
    values = lowest_place_ranks(image.scores) / max(1, image.n_pred)
    predicted = draw_regions((pred_order, values), image.strict if strict else image.loose)
    return truth.astype(np.float64), predicted.astype(np.float64)


def union_f(image: ImageScores, painter: str) -> Score:
    """F of the union of predictions (> 0.5) against the union of objects, 1e-6 added to each denominator,
    without ranks. An image without ground truth is skipped (the published code fails)."""
    both, predicted, truth = image.once(_union_counts)
    precision, recall = both / (predicted + 1e-6), both / (truth + 1e-6)
    return counted(1.3 * precision * recall / (0.3 * precision + recall + 1e-6))


def union_iou(image: ImageScores, painter: str) -> Score:
    """Prediction masks are 1 where > 0.5; 1e-6 is added to the denominator. An image without ground truth is
    skipped (the published code fails)."""
    both, predicted, truth = image.once(_union_counts)
    return counted(both / (predicted + truth - both + 1e-6))


def _union_counts(image: ImageScores) -> tuple[float, float, float]:
    gt, pred, pixels = image.gt.any(axis=1), image.strict.any(axis=1), image.regions.pixels
    return float(pixels[gt & pred].sum()), float(pixels[pred].sum()), float(pixels[gt].sum())


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
    relevance = np.array(image.once(_relevance, image.painted(painter).tobytes()), np.float64)
    gain, ideal = (2.0**relevance - 1, 31.0) if exponential else (relevance, 5.0)
    discount = 1 / np.log2(np.arange(count) + 2)
    return counted(float(gain @ discount) / float(ideal * discount.sum()))


def _relevance(image: ImageScores, painted: bytes) -> list[int]:
    """Return the relevance of at most five objects in descending true order."""
    mean, ranks = image.once(mean_gray, painted), image.gt_ranks.tolist()
    by_mean, by_rank = (
        sorted(range(len(ranks)), key=lambda i: (values[i], i), reverse=True) for values in (mean, ranks)
    )
    predicted = {index: 5 - place if mean[index] else 0 for place, index in enumerate(by_mean)}
    lowest = max(ranks) - 5
    return [5 - abs(ranks[index] - lowest - predicted[index]) for index in by_rank]
