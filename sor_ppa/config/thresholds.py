"""Score thresholds of ranking models whose configuration names none."""

from __future__ import annotations

import math

from detectron2.config import CfgNode

__all__ = ["DEFAULT_SCORE_THRESH", "RANKING_ROI_HEADS", "score_threshold", "score_threshold_keys"]

RANKING_ROI_HEADS = ("CenterROIHeads", "MaskRCNNHeads")
_DETECTION, _RANKING = 0.05, 0.3
# The default of the keys: the next float after detectron2's 0.05. Detectors see no difference, and a 0.05
# that a file names can be told from one that it does not.
DEFAULT_SCORE_THRESH = math.nextafter(_DETECTION, 1.0)


def score_threshold(cfg: CfgNode, value: float) -> float:
    """Return a score threshold for inference, with the default replaced.

    The training script of the published ranking code sets 0.3 in every run; none of its YAML files does.

    Args:
        cfg: says whether the model ranks.
        value: ``MODEL.FCOS.INFERENCE_TH_TEST`` or ``MODEL.ROI_HEADS.SCORE_THRESH_TEST``.

    Returns:
        ``value`` where it was named; else 0.3 with a ranking head and 0.05 without one.
    """
    if value != DEFAULT_SCORE_THRESH:
        return value
    ranks = cfg.MODEL.ROI_HEADS.NAME in RANKING_ROI_HEADS and bool(cfg.MODEL.SOR.NAME)
    return _RANKING if ranks else _DETECTION


def score_threshold_keys(cfg: CfgNode) -> list[tuple[CfgNode, str]]:
    """Return the node and the name of the score threshold of every detector."""
    model = cfg.MODEL
    return [
        (model.FCOS, "INFERENCE_TH_TEST"),
        (model.ROI_HEADS, "SCORE_THRESH_TEST"),
        (model.SALIENCE_DETR, "TEST_SCORE_THRESH"),
        (model.SIAMESE_DETR, "SCORE_THRESH"),
        (model.MASK_FORMER.TEST, "SCORE_THRESH"),
    ]
