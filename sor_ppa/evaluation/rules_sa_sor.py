"""SA-SOR: Pearson's correlation of ranks after matching instances by mask IoU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .correlation import lowest_place_ranks, pearson
from .image import ImageScores
from .score import Score, counted, counted_or_nan_as_0, counted_or_skipped, nan_as_0, skipped

NO_GT = "no ground truth"
UNDEFINED = "correlation undefined"


def irsr(
    image: ImageScores,
    painter: str,
    *,
    iou: float = 0.5,
    confidence: float | None = None,
    list_order: bool = False,
) -> Score:
    """IRSR's SA-SOR (see ``variants``: irsr, psr_*, *_conf*, sr_script).

    Args:
        image: the image.
        painter: unused.
        iou: a ground-truth object takes its best prediction if their IoU is at least this.
        confidence: only predictions above it exist.
        list_order: scores are replaced by places, so that equal scores become list order.
    """
    if image.n_gt == 0:
        return skipped(NO_GT)
    if image.n_gt == 1:
        return skipped("one ground-truth object")
    scores, overlap = image.scores, image.iou
    if list_order:
        scores = np.empty(image.n_pred)
        scores[image.pred_order] = np.arange(image.n_pred, 0, -1)
    if confidence is not None:
        if image.confidences is None:
            raise ValueError(
                f"pred_confidences: needed by the variants that keep confidence > {confidence:g}"
            )
        kept = image.confidences > confidence
        scores, overlap = scores[kept], overlap[:, kept]
    matched = match_best(overlap, iou, scores, image.gt_ranks)
    found = matched >= 0
    ranked = scores[matched[found]] if overlap.shape[1] <= image.n_gt else scores
    predicted = np.zeros(image.n_gt, np.int64)
    predicted[found] = lowest_place_ranks(scores[matched[found]], ranked)
    if predicted.min() == predicted.max():
        return counted(0.0)
    return counted_or_skipped(
        pearson(lowest_place_ranks(image.gt_ranks), predicted), "all ground-truth ranks equal"
    )


def match_best(
    iou: NDArray[np.float64], threshold: float, scores: NDArray[np.float64], gt_ranks: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Each object takes its best prediction; each prediction keeps its best object. No second choice.

    Equal IoUs are decided by saliency, then by list order: an object prefers the prediction with the
    higher score, a prediction the object with the higher rank.

    Args:
        iou: (G, P).
        threshold: lowest IoU of a match.
        scores: (P,) of the predictions.
        gt_ranks: (G,) of the objects.

    Returns:
        (G,) index of the prediction, -1 = unmatched.
    """
    matched = np.full(iou.shape[0], -1, np.int64)
    if iou.size == 0:
        return matched
    preference = np.argsort(-scores, kind="stable")
    choice = preference[iou[:, preference].argmax(axis=1)]
    best = iou.max(axis=1)
    candidates = np.flatnonzero(best >= threshold)
    by_claim = candidates[np.lexsort((candidates, -gt_ranks[candidates], -best[candidates]))]
    predictions, first = np.unique(choice[by_claim], return_index=True)
    matched[by_claim[first]] = predictions
    return matched


def seqrank(image: ImageScores, painter: str) -> Score:
    """SeqRank's SA-SOR: optimal assignment by total IoU, pairs with IoU > 0.5, ranks by list position."""
    if image.n_gt == 0:
        return skipped(NO_GT)
    from scipy.optimize import linear_sum_assignment

    overlap = image.iou_eps[image.gt_order][:, image.pred_order]
    rows, columns = linear_sum_assignment(1.0 - overlap)
    good = overlap[rows, columns] > 0.5
    return _positions(image, rows[good], columns[good])


def sr_deprecated(image: ImageScores, painter: str) -> Score:
    """As ``seqrank``, but pairs are taken greedily by descending IoU; no ground truth counts as 0."""
    if image.n_gt == 0:
        return nan_as_0(NO_GT)
    overlap = image.iou_eps[image.gt_order][:, image.pred_order]
    rows, columns = match_greedily(overlap, 0.5)
    return _positions(image, rows, columns)


def match_greedily(
    overlap: NDArray[np.float64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One-to-one pairs by descending IoU, above a threshold; equal IoUs: earlier column, then earlier row.

    Args:
        overlap: (G, P).
        threshold: pairs must exceed it.

    Returns:
        Rows and columns of the pairs.
    """
    columns, rows = np.nonzero(threshold < overlap.T)
    order = np.argsort(-overlap[rows, columns], kind="stable")
    free_row = np.ones(overlap.shape[0], np.bool_)
    free_column = np.ones(overlap.shape[1], np.bool_)
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_row[row] and free_column[column]:
            free_row[row] = free_column[column] = False
            pairs.append((row, column))
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _positions(image: ImageScores, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Score:
    predicted = np.zeros(image.n_gt, np.int64)
    predicted[rows] = image.n_pred - columns
    return counted_or_nan_as_0(pearson(np.arange(image.n_gt, 0, -1), predicted), UNDEFINED)


def sr_old(image: ImageScores, painter: str) -> Score:
    """SA-SOR on painted maps: instances are the grey levels of the painted ground truth."""
    truth, grey = image.painted_gt(painter), image.painted(painter)
    pixels = image.regions.pixels.astype(np.float64)
    gt_values = np.unique(truth[truth > 0])
    levels = len(gt_values)
    values = np.unique(np.append(grey, np.uint8(0)))
    is_value = grey[:, None] == values
    gt_level = truth[:, None] == gt_values
    inside = (gt_level * pixels[:, None]).T @ is_value
    common = inside.argmax(axis=1) if levels else np.zeros(0, np.int64)
    overlap = inside[np.arange(levels), common]
    union = pixels @ gt_level + (pixels @ is_value)[common] - overlap
    iou = overlap / (union + 1e-6)
    predicted = np.zeros(levels, np.int64)
    candidates = np.flatnonzero((common > 0) & (iou >= 0.5))
    order = candidates[np.lexsort((-common[candidates], -candidates, -iou[candidates]))]
    taken, first = np.unique(common[order], return_index=True)
    predicted[order[first]] = taken
    return counted_or_nan_as_0(pearson(np.arange(1, levels + 1), predicted), UNDEFINED)
