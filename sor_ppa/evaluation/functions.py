"""The metrics of one image as plain functions on arrays.

All take the same arguments: ground-truth masks and ranks, predicted masks and scores. Masks are
(N, H, W) arrays of bool, of uint8 holding 0 and 1, or of float in [0, 1]; an empty list means none.
Ranks are dense integers from 0, scores any finite numbers; higher = more salient, ties allowed.
The rule of a variant in full: ``describe("sor", "psr@area")``.
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from .image import ImageScores
from .score import Score
from .variants import DEFAULTS, find_variant


def _score(
    metric: str,
    gt_masks: ArrayLike,
    gt_ranks: ArrayLike,
    pred_masks: ArrayLike,
    pred_scores: ArrayLike,
    pred_confidences: ArrayLike | None,
    variant: str,
) -> Score:
    found = find_variant(metric, variant)
    image = ImageScores.from_masks(gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences)
    return found.score(image)


def describe(metric: str, variant: str | None = None) -> str:
    """The rule of a variant in full, and its source.

    Args:
        metric: "sa_sor", "sor", "mae", "f_measure", "iou" or "ndcg".
        variant: its name; None = the default.

    Raises:
        ValueError: unknown names.
    """
    found = find_variant(metric, variant or DEFAULTS.get(metric, ""))
    return f"{metric} {found.name}: {found.text} Source: {found.rule.source}."


def sa_sor(
    gt_masks: ArrayLike,
    gt_ranks: ArrayLike,
    pred_masks: ArrayLike,
    pred_scores: ArrayLike,
    *,
    pred_confidences: ArrayLike | None = None,
    variant: str = DEFAULTS["sa_sor"],
) -> Score:
    """SA-SOR: Pearson's correlation of ranks after matching instances by mask IoU, in [-1, 1].

    ``irsr`` (default): each object takes its best prediction at IoU >= 0.5, a prediction keeps its
    best object, and there is no second choice; unmatched objects get predicted rank 0; images with
    fewer than two objects are skipped. ``irsr_inrepo``, ``qagnet`` and ``psr_iou0.5`` are the same
    rule; ``psr_iou0.1`` has threshold 0.1; ``irsr_conf0.6`` and ``qagnet_conf0.7`` keep predictions
    above that confidence only; ``sr_script`` puts equal scores in list order. ``seqrank``: optimal
    one-to-one assignment, IoU > 0.5, undefined counts as 0. ``sr_deprecated``: greedy assignment
    instead. ``sr_old@<painter>``: on grey levels of painted maps.

    Args:
        gt_masks: (G, H, W).
        gt_ranks: (G,) dense integers from 0, higher = more salient.
        pred_masks: (P, H, W).
        pred_scores: (P,), higher = more salient.
        pred_confidences: (P,), for the variants that filter by confidence.
        variant: the definition; ``describe("sa_sor", variant)`` gives its rule in full and its source.

    Returns:
        The value with its status.

    Raises:
        ValueError: bad input or unknown variant, in one line.
    """
    return _score("sa_sor", gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences, variant)


def sor(
    gt_masks: ArrayLike,
    gt_ranks: ArrayLike,
    pred_masks: ArrayLike,
    pred_scores: ArrayLike,
    *,
    pred_confidences: ArrayLike | None = None,
    variant: str = DEFAULTS["sor"],
) -> Score:
    """SOR: Spearman's correlation of ranks, mapped to [0, 1].

    ``assr@<painter>`` (default ``assr@assr``): the most frequent grey value inside each object of
    which more than half is painted. ``ocor``, ``ppa`` and ``qagnet`` are the same rule on other
    maps; ``psr`` asks for 98 % of the object; ``ijcv`` takes the mean grey value; ``qagnet_rank0``
    and ``assr_rank0`` take integer ranks from 0, the latter dropping rank 0. ``seqrank`` and
    ``sr_deprecated``: on instances by IoU > 0.5. ``sr_old@<painter>``: on grey levels of the
    painted ground truth.

    Args:
        gt_masks: (G, H, W).
        gt_ranks: (G,) dense integers from 0, higher = more salient.
        pred_masks: (P, H, W).
        pred_scores: (P,), higher = more salient.
        pred_confidences: (P,), for the variants that filter by confidence.
        variant: the definition; ``describe("sor", variant)`` gives its rule in full and its source.

    Returns:
        The value with its status.

    Raises:
        ValueError: bad input or unknown variant, in one line.
    """
    return _score("sor", gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences, variant)


def mae(
    gt_masks: ArrayLike,
    gt_ranks: ArrayLike,
    pred_masks: ArrayLike,
    pred_scores: ArrayLike,
    *,
    pred_confidences: ArrayLike | None = None,
    variant: str = DEFAULTS["mae"],
) -> Score:
    """Mean absolute error of ranked saliency, in [0, 1].

    ``assr@<painter>`` (default ``assr@assr``): painted prediction against painted ground truth.
    ``sr_old`` is the same; ``assr_binary`` and ``ijcv_binary`` compare binarised maps;
    ``irsr_levels`` and ``qagnet_levels`` paint rank / count in list order; ``seqrank`` and
    ``sr_deprecated`` compare unions of masks, without ranks.

    Args:
        gt_masks: (G, H, W).
        gt_ranks: (G,) dense integers from 0, higher = more salient.
        pred_masks: (P, H, W).
        pred_scores: (P,), higher = more salient.
        pred_confidences: (P,), for the variants that filter by confidence.
        variant: the definition; ``describe("mae", variant)`` gives its rule in full and its source.

    Returns:
        The value with its status.

    Raises:
        ValueError: bad input or unknown variant, in one line.
    """
    return _score("mae", gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences, variant)


def f_measure(
    gt_masks: ArrayLike,
    gt_ranks: ArrayLike,
    pred_masks: ArrayLike,
    pred_scores: ArrayLike,
    *,
    pred_confidences: ArrayLike | None = None,
    variant: str = DEFAULTS["f_measure"],
) -> Score:
    """F-measure (beta² = 0.3), in [0, 1].

    ``irsr_levels`` (default) and ``qagnet_levels`` (masks >= 0.5): of the pixels in each band of
    rank levels, averaged over bands. ``seqrank``: of the union of masks, without ranks.

    Args:
        gt_masks: (G, H, W).
        gt_ranks: (G,) dense integers from 0, higher = more salient.
        pred_masks: (P, H, W).
        pred_scores: (P,), higher = more salient.
        pred_confidences: (P,), for the variants that filter by confidence.
        variant: the definition; ``describe("f_measure", variant)`` gives its rule in full and its source.

    Returns:
        The value with its status.

    Raises:
        ValueError: bad input or unknown variant, in one line.
    """
    return _score("f_measure", gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences, variant)


def iou(
    gt_masks: ArrayLike,
    gt_ranks: ArrayLike,
    pred_masks: ArrayLike,
    pred_scores: ArrayLike,
    *,
    pred_confidences: ArrayLike | None = None,
    variant: str = DEFAULTS["iou"],
) -> Score:
    """IoU of the union of predictions with the union of objects, in [0, 1]; ranks do not enter.

    ``seqrank`` (default): 1e-6 added to the denominator.

    Args:
        gt_masks: (G, H, W).
        gt_ranks: (G,) dense integers from 0, higher = more salient.
        pred_masks: (P, H, W).
        pred_scores: (P,), higher = more salient.
        pred_confidences: (P,), for the variants that filter by confidence.
        variant: the definition; ``describe("iou", variant)`` gives its rule in full and its source.

    Returns:
        The value with its status.

    Raises:
        ValueError: bad input or unknown variant, in one line.
    """
    return _score("iou", gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences, variant)


def ndcg(
    gt_masks: ArrayLike,
    gt_ranks: ArrayLike,
    pred_masks: ArrayLike,
    pred_scores: ArrayLike,
    *,
    pred_confidences: ArrayLike | None = None,
    variant: str = DEFAULTS["ndcg"],
) -> Score:
    """nDCG of at most five objects, in [0, 1].

    ``ijcv_lin@<painter>`` (default ``ijcv_lin@assr_ijcv``): relevance 5 - |true grade - predicted
    grade|, grades 5 to 1 by the mean grey value inside each object. ``ijcv_exp``: gain 2^relevance
    - 1.

    Args:
        gt_masks: (G, H, W).
        gt_ranks: (G,) dense integers from 0, higher = more salient.
        pred_masks: (P, H, W).
        pred_scores: (P,), higher = more salient.
        pred_confidences: (P,), for the variants that filter by confidence.
        variant: the definition; ``describe("ndcg", variant)`` gives its rule in full and its source.

    Returns:
        The value with its status.

    Raises:
        ValueError: bad input or unknown variant, in one line.
    """
    return _score("ndcg", gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences, variant)
