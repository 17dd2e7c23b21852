"""MAE of painted maps, level-wise F-measure, binary F and IoU, and nDCG."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .correlation import lowest_place_ranks
from .image import FloatArray, ImageScores
from .painters import draw
from .rules_sa_sor import NO_GT
from .rules_sor import mean_grey_values
from .score import Score, counted, nan_as_0, skipped


def grey_error(image: ImageScores, painter: str) -> Score:
    """Mean absolute difference of painted prediction and painted ground truth, both divided by 255."""
    difference = np.abs(image.painted(painter).astype(np.int64) - image.painted_gt(painter))
    return counted(float(image.regions.pixels @ difference) / (255 * image.n_pixels))


def binary_error(image: ImageScores, painter: str, *, lowest: int = 1) -> Score:
    """Share of pixels where prediction (grey >= lowest) and ground truth (grey > 0) disagree."""
    wrong = (image.painted(painter) >= lowest) != (image.painted_gt(painter) > 0)
    return counted(float(image.regions.pixels[wrong].sum()) / image.n_pixels)


def union_error(image: ImageScores, painter: str, *, count_no_gt: bool = False) -> Score:
    """SeqRank's binary MAE: maximum of the raw masks against the union of the ground truth."""
    if image.n_gt == 0:
        return nan_as_0(NO_GT) if count_no_gt else skipped(NO_GT)
    return counted(image.binary_error)


def level_error(image: ImageScores, painter: str, *, strict: bool) -> Score:
    """IRSR's MAE: both sides painted with rank / count in list order, no grey values."""
    truth, predicted = _levels(image, strict=strict)
    return counted(float(image.regions.pixels @ np.abs(truth - predicted)) / image.n_pixels)


def level_f(image: ImageScores, painter: str, *, strict: bool) -> Score:
    """IRSR's F-measure: F (beta² = 0.3) of the pixels in each band of levels, averaged over bands."""
    truth, predicted = _levels(image, strict=strict)
    edges = np.unique(truth)
    bands = len(edges) - 1
    if bands == 0:
        return skipped("no band of levels")
    gt = _one_hot(np.searchsorted(edges, truth), bands)
    pred = _one_hot(np.searchsorted(edges, predicted), bands)
    pixels = image.regions.pixels.astype(np.float64)
    positive, found, true = pixels @ gt, pixels @ pred, pixels @ (gt & pred)
    # F = 1.3 P R / (0.3 P + R) with P = true / found and R = true / positive; 0 where nothing is true
    return counted(float(np.mean(1.3 * true / (0.3 * positive + found))))


def _levels(image: ImageScores, *, strict: bool) -> tuple[FloatArray, FloatArray]:
    gt_order, pred_order = np.arange(image.n_gt), np.arange(image.n_pred)
    truth = draw((gt_order, (image.gt_ranks + 1) / max(1, image.n_gt)), image.gt)
    values = lowest_place_ranks(image.scores) / max(1, image.n_pred)
    predicted = draw((pred_order, values), image.strict if strict else image.loose)
    return truth.astype(np.float64), predicted.astype(np.float64)


def _one_hot(place: NDArray[np.int64], bands: int) -> NDArray[np.bool_]:
    """Band b = 0, 1, ... holds what lies in (edge b, edge b + 1]."""
    return place[:, None] == np.arange(1, bands + 1)


def union_f(image: ImageScores, painter: str) -> Score:
    """SeqRank's F-measure (beta² = 0.3) of the union of predictions against the union of ground truth."""
    if image.n_gt == 0:
        return skipped(NO_GT)
    both, predicted, truth = _union_counts(image)
    precision, recall = both / (predicted + 1e-6), both / (truth + 1e-6)
    return counted(1.3 * precision * recall / (0.3 * precision + recall + 1e-6))


def union_iou(image: ImageScores, painter: str) -> Score:
    """SeqRank's IoU of the union of predictions with the union of ground truth."""
    if image.n_gt == 0:
        return skipped(NO_GT)
    both, predicted, truth = _union_counts(image)
    return counted(both / (predicted + truth - both + 1e-6))


def _union_counts(image: ImageScores) -> tuple[float, float, float]:
    gt, pred, pixels = image.gt.any(axis=1), image.strict.any(axis=1), image.regions.pixels
    return float(pixels[gt & pred].sum()), float(pixels[pred].sum()), float(pixels[gt].sum())


def ndcg(image: ImageScores, painter: str, *, exponential: bool) -> Score:
    """nDCG of ASSR's IJCV extension on grades 5 to 1 of at most five objects."""
    count = image.n_gt
    if count == 0:
        return skipped(NO_GT)
    if count > 5:
        return skipped("more than five ground-truth objects")
    mean = mean_grey_values(image, painter)
    later_first = -np.arange(count)
    predicted = np.zeros(count)
    predicted[np.lexsort((later_first, -mean))] = np.arange(5, 5 - count, -1)
    predicted[mean == 0] = 0
    grade = 5 - (image.gt_ranks.max() - image.gt_ranks)
    relevance = (5 - np.abs(grade - predicted))[np.lexsort((later_first, -image.gt_ranks))]
    gain, ideal = (2.0**relevance - 1, 31.0) if exponential else (relevance, 5.0)
    discount = 1 / np.log2(np.arange(count) + 2)
    return counted(float(gain @ discount) / float(ideal * discount.sum()))
