"""Building a model that is ready for prediction, with weights, tuning and wrappers."""

from __future__ import annotations

import logging
import os

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, ROI_HEADS_REGISTRY
from torch import nn

from .building import build_checked_model
from .checkpoint import SORCheckpointer
from .config import ConfigError
from .cpu_inference import tune_for_inference
from .saliency_refinement import with_saliency
from .test_time_augmentation import with_views

__all__ = ["build_inference_model", "check_gives_objects", "gives_ranks", "wrap_for_inference"]

_log = logging.getLogger(__name__)
_WITH_ROI_HEADS = ("GeneralizedRCNN", "SalientObjectRanker", "RankingSalienceDETR", "RankingDETR")
_NO_OBJECTS = {
    "InSPyReNet": "a saliency model gives maps, no objects (see sor_ppa.inspyrenet.SaliencyPredictor)",
    "SiameseDETR": "the pre-training model gives no objects",
}


def build_inference_model(cfg: CfgNode, *, min_score: float = 0.0) -> nn.Module:
    """Build the model of a configuration for prediction, with ``MODEL.WEIGHTS``.

    The model is tuned (:func:`tune_for_inference`) and wrapped (:func:`wrap_for_inference`).

    Args:
        cfg: a complete configuration.
        min_score: see :func:`wrap_for_inference`.

    Raises:
        ConfigError: in one line, for a setting that no model can have.
        FileNotFoundError: ``MODEL.WEIGHTS`` names a file that does not exist.
        CheckpointError: the weights do not fit the model.
    """
    weights = cfg.MODEL.WEIGHTS
    path = weights.removesuffix("?matching_heuristics=True")  # detectron2's; see SORCheckpointer
    if weights and "://" not in weights and not os.path.isfile(path):
        raise FileNotFoundError(f'MODEL.WEIGHTS: no such file: {weights} ("" gives random weights)')
    model = build_checked_model(cfg)
    if weights:
        _load(model, weights)
    elif getattr(model, "needs_weights", True):
        _log.warning("MODEL.WEIGHTS is empty: the model keeps its random weights, its results mean nothing")
    return wrap_for_inference(cfg, tune_for_inference(model), min_score)


def _load(model: nn.Module, weights: str) -> None:
    checkpointer = SORCheckpointer(model)
    checkpointer.load(weights, checkpointables=[])
    missing = list(checkpointer.fit.incomplete) if checkpointer.fit is not None else []
    if missing:
        _log.warning(
            "%s lacks %d parameters of this model (%s ...): they stay random, so results may be, too",
            *(weights, len(missing), ", ".join(missing[:2])),
        )


def wrap_for_inference(cfg: CfgNode, model: nn.Module, min_score: float = 0.0) -> nn.Module:
    """Wrap a loaded model for the views of ``TEST.AUG``, ``MODEL.SOR.REFINE`` and ``RANK_BY``.

    Args:
        cfg: the model's configuration.
        model: a detector; returned unchanged where nothing is asked for.
        min_score: with views, detections of a lower mean confidence are dropped before ranking.

    Raises:
        ConfigError: the model does not support what is asked for.
    """
    return with_saliency(cfg, with_views(cfg, model, min_score))


def gives_ranks(cfg: CfgNode) -> bool:
    """Return whether objects get ranks: not without a ranking head, nor with detectron2's own ROI heads."""
    if cfg.MODEL.SOR.RANK_BY != "head":
        return True
    architecture = cfg.MODEL.META_ARCHITECTURE
    two_stage = architecture in ("GeneralizedRCNN", "SalientObjectRanker")
    if two_stage and ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME).__module__.startswith("detectron2."):
        return False
    return bool(cfg.MODEL.SOR.NAME)


def check_gives_objects(cfg: CfgNode) -> None:
    """Check that a model detects objects and, if it has ROI heads, ranks them.

    Plain transformer detectors are fine; their objects have no rank.

    Raises:
        ConfigError: it does not.
    """
    architecture = cfg.MODEL.META_ARCHITECTURE
    if reason := _NO_OBJECTS.get(architecture):
        raise ConfigError(f"MODEL.META_ARCHITECTURE: expected a detector, found {architecture!r}: {reason}")
    if architecture in _WITH_ROI_HEADS and architecture in META_ARCH_REGISTRY and not gives_ranks(cfg):
        raise ConfigError(
            f"MODEL.SOR.NAME: expected a ranking head with ROI heads that use it, found "
            f"{cfg.MODEL.SOR.NAME!r} with MODEL.ROI_HEADS.NAME {cfg.MODEL.ROI_HEADS.NAME!r}"
        )
