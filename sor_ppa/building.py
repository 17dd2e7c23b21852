"""Building the model of a configuration: what cannot be built is one line that names the key."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    build_model,
)
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY
from torch import nn

from .checks import check_least, check_registered
from .config import ConfigError

__all__ = ["build_checked_model", "check_model_config", "needs_weights"]

_log = logging.getLogger(__name__)
_TWO_STAGE = ("GeneralizedRCNN", "SalientObjectRanker")
_WITH_BOX_HEAD = ("MaskRCNNHeads", "StandardROIHeads", "CascadeROIHeads")
# the node of each transformer detector, and its numbers: width and attention heads first
_TRANSFORMERS = {
    "SALIENCE_DETR": ("DIM", "NUM_HEADS", "FFN_DIM", "ENC_LAYERS", "DEC_LAYERS", "NUM_QUERIES", "NUM_POINTS"),
    "SIAMESE_DETR": ("HIDDEN_DIM", "NUM_HEADS", "FFN_DIM", "DECODER_LAYERS", "NUM_QUERIES", "NUM_POINTS"),
}
_NODES = {
    "SalienceDETR": "SALIENCE_DETR",
    "RankingSalienceDETR": "SALIENCE_DETR",
    "DETRDetector": "SIAMESE_DETR",
    "RankingDETR": "SIAMESE_DETR",
    "SiameseDETR": "SIAMESE_DETR",
}


def build_checked_model(cfg: CfgNode) -> nn.Module:
    """The model that ``MODEL`` describes, on ``MODEL.DEVICE``.

    Args:
        cfg: a complete configuration.

    Raises:
        ConfigError: in one line, for a setting that no model can have.
    """
    try:
        check_model_config(cfg)
        return build_model(cfg)
    except ConfigError:
        raise
    except ValueError as error:
        _log.debug("The model cannot be built", exc_info=True)
        raise ConfigError(" ".join(str(error).split())) from error
    except KeyError as error:
        _log.debug("The model cannot be built", exc_info=True)
        found = error.args[0] if error.args else ""
        raise ConfigError(
            f"MODEL: found {found!r}, expected what the parts of {cfg.MODEL.META_ARCHITECTURE} know"
        ) from error


def needs_weights(cfg: CfgNode) -> bool:
    """Return whether the meta-architecture has weights to learn or load; most do."""
    name = cfg.MODEL.META_ARCHITECTURE
    return name not in META_ARCH_REGISTRY or getattr(META_ARCH_REGISTRY.get(name), "needs_weights", True)


def check_model_config(cfg: CfgNode) -> None:
    """Check what no part of a model sees by itself: registered names, and keys that must agree.

    Args:
        cfg: a complete configuration.

    Raises:
        ValueError: in one line, naming the key.
    """
    model = cfg.MODEL
    architecture = model.META_ARCHITECTURE
    check_registered("MODEL.META_ARCHITECTURE", architecture, META_ARCH_REGISTRY)
    check_registered("MODEL.BACKBONE.NAME", model.BACKBONE.NAME, BACKBONE_REGISTRY)
    if len(model.PIXEL_STD) != len(model.PIXEL_MEAN):
        raise ValueError(
            f"MODEL.PIXEL_STD: found {len(model.PIXEL_STD)} values, expected {len(model.PIXEL_MEAN)} "
            "(MODEL.PIXEL_MEAN)"
        )
    if min(model.PIXEL_STD) <= 0:
        raise ValueError(f"MODEL.PIXEL_STD: found {list(model.PIXEL_STD)}, expected values above 0")
    check_least(1, {"TEST.IMS_PER_BATCH": cfg.TEST.IMS_PER_BATCH})
    if architecture in _NODES:
        _check_transformer(cfg, _NODES[architecture])
    if architecture in _TWO_STAGE:
        _check_two_stage(cfg)
    if architecture in (*_TWO_STAGE, "RankingSalienceDETR", "RankingDETR"):
        _check_roi_heads(cfg)


def _check_transformer(cfg: CfgNode, name: str) -> None:
    node, prefix = cfg.MODEL[name], f"MODEL.{name}"
    check_least(1, {f"{prefix}.{key}": node[key] for key in (*_TRANSFORMERS[name], "NUM_CLASSES")})
    width, heads = _TRANSFORMERS[name][:2]
    if node[width] % node[heads]:
        raise ValueError(
            f"{prefix}.{heads}: found {node[heads]}, expected a divisor of {node[width]} ({prefix}.{width})"
        )
    if not node.IN_FEATURES:
        raise ValueError(f"{prefix}.IN_FEATURES: found none, expected names of the backbone's features")


def _check_two_stage(cfg: CfgNode) -> None:
    model = cfg.MODEL
    proposals = model.PROPOSAL_GENERATOR.NAME
    if proposals != "PrecomputedProposals":
        check_registered("MODEL.PROPOSAL_GENERATOR.NAME", proposals, PROPOSAL_GENERATOR_REGISTRY)
    if model.ROI_HEADS.NAME in _WITH_BOX_HEAD:
        check_registered("MODEL.ROI_BOX_HEAD.NAME", model.ROI_BOX_HEAD.NAME, ROI_BOX_HEAD_REGISTRY)
    if model.BACKBONE.NAME == "build_resnet_fpn_backbone":  # detectron2 builds it
        wanted, given = list(model.FPN.IN_FEATURES), list(model.RESNETS.OUT_FEATURES)
        missing = [name for name in wanted if name not in given]
        if missing or not wanted:
            raise ValueError(
                f"MODEL.FPN.IN_FEATURES: found {missing}, expected of {given} (MODEL.RESNETS.OUT_FEATURES)"
            )


def _check_roi_heads(cfg: CfgNode) -> None:
    """Registered heads; the detector and the heads that segment its boxes know the same classes."""
    model = cfg.MODEL
    heads = model.ROI_HEADS
    check_registered("MODEL.ROI_HEADS.NAME", heads.NAME, ROI_HEADS_REGISTRY)
    if len(heads.IOU_LABELS) != len(heads.IOU_THRESHOLDS) + 1:
        raise ValueError(
            f"MODEL.ROI_HEADS.IOU_LABELS: found {len(heads.IOU_LABELS)} values, "
            f"expected {len(heads.IOU_THRESHOLDS) + 1} (one more than MODEL.ROI_HEADS.IOU_THRESHOLDS)"
        )
    detector = _NODES.get(model.META_ARCHITECTURE, "FCOS")
    if heads.NAME != "CenterROIHeads" or (detector == "FCOS" and model.PROPOSAL_GENERATOR.NAME != "FCOS"):
        return
    node = model[detector]
    check_least(1, {f"MODEL.{detector}.NUM_CLASSES": node.NUM_CLASSES})
    known = len(node.get("LABEL_IDS", ())) or node.NUM_CLASSES
    if known != heads.NUM_CLASSES:
        raise ValueError(
            f"MODEL.ROI_HEADS.NUM_CLASSES: found {heads.NUM_CLASSES}, expected {known} "
            f"(classes of MODEL.{detector})"
        )
