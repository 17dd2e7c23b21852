"""Building a model that is ready for prediction, with its wrappers, and what models can predict."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling import ROI_HEADS_REGISTRY
from torch import nn

from .building import build_loaded_model, needs_weights
from .config import ConfigError
from .saliency_refinement import with_saliency
from .test_time_augmentation import with_views

__all__ = ["build_inference_model", "check_gives_objects", "gives_ranks", "wrap_for_inference"]

_NO_OBJECTS = {
    "InSPyReNet": "a saliency model gives maps, no objects (see sor_ppa.saliency_predictor)",
    "SiameseDETR": "the pre-training model gives no objects",
}


def build_inference_model(cfg: CfgNode, *, min_score: float = 0.0) -> nn.Module:
    """Return ``build_loaded_model(cfg)``, wrapped by :func:`wrap_for_inference`."""
    return wrap_for_inference(cfg, build_loaded_model(cfg), min_score)


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
    if not needs_weights(cfg):
        return True
    two_stage = architecture in ("GeneralizedRCNN", "SalientObjectRanker")
    if two_stage and ROI_HEADS_REGISTRY.get(cfg.MODEL.ROI_HEADS.NAME).__module__.startswith("detectron2."):
        return False
    return bool(cfg.MODEL.SOR.NAME)


def check_gives_objects(cfg: CfgNode) -> None:
    """Check that a model detects objects. Those of a plain detector have no rank.

    Raises:
        ConfigError: it does not.
    """
    architecture = cfg.MODEL.META_ARCHITECTURE
    if reason := _NO_OBJECTS.get(architecture):
        raise ConfigError(f"MODEL.META_ARCHITECTURE: expected a detector, found {architecture!r}: {reason}")
