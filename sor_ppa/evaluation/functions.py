"""The metrics of one image as functions on arrays, made from the table of ``definitions``."""

from __future__ import annotations

from collections.abc import Callable

from numpy.typing import ArrayLike

from .definitions import METRICS, RULES
from .image import ImageScores
from .score import Score
from .variants import find_variant

_DOC = """Return {metric.label} of one image, in [{metric.low}, {metric.high}]. {metric.text}

    Args:
        gt_masks: (G, H, W) bool, uint8 holding 0 and 1, or float in [0, 1]; an empty list means none.
        gt_ranks: (G,) dense integers from 0, higher = more salient, ties allowed.
        pred_masks: (P, H, W), types as ``gt_masks``.
        pred_scores: (P,) finite numbers, higher = more salient.
        pred_confidences: (P,), for the variants that filter by confidence.
        variant: the definition, of {variants}; ``describe("{name}", variant)`` explains it.

    Returns:
        The value with its status.

    Raises:
        ValueError: bad input or unknown variant, in one line.
    """


def _metric_function(name: str) -> Callable[..., Score]:
    metric = METRICS[name]

    def function(
        gt_masks: ArrayLike,
        gt_ranks: ArrayLike,
        pred_masks: ArrayLike,
        pred_scores: ArrayLike,
        *,
        pred_confidences: ArrayLike | None = None,
        variant: str = metric.default,
    ) -> Score:
        image = ImageScores.from_masks(gt_masks, gt_ranks, pred_masks, pred_scores, pred_confidences)
        return find_variant(name, variant).score(image)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = _DOC.format(metric=metric, name=name, variants=", ".join(RULES[name]))
    return function


sa_sor, sor, mae, f_measure, iou, ndcg = map(_metric_function, METRICS)
