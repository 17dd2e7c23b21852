"""What keys may be beside other keys, in models and settings that read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY

from . import rules as r
from .features import PYRAMIDS, backbone_features, proposal_levels, roi_levels
from .registries import ROI_MASKIOU_HEAD_REGISTRY, SOR_HEAD_REGISTRY
from .thresholds import RANKING_ROI_HEADS

__all__ = ["TOGETHER", "Rules", "class_key"]

Rules = dict[str, r.Rule]

# ranking heads whose objects attend to each other, and how many position values they append to OBJ_DIM
_ATTENTION = {
    "SelfAttentionPredictor": 0,
    "SelfAttentionWithPosCat": 0,
    "SelfAttentionWithPosConvCat": 0,
    "SelfAttentionWithOtherPos": 4,
    "SelfAttentionWithOtherPosQuant": 0,
}


def _object_width(cfg: CfgNode) -> int:
    """Return the number of values that describe an object to the encoder of the ranking head."""
    return cfg.MODEL.SOR.OBJ_DIM + _ATTENTION[cfg.MODEL.SOR.NAME]


def _fits_scaled_views(scales: Any, cfg: CfgNode) -> bool:
    sizes = [min(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) * scale for scale in scales]
    return bool(sizes) and all(1 <= round(size) <= r.MAX_SIDE for size in sizes)


def _expected_scales(cfg: CfgNode) -> str:
    return f"at least one, each giving 1 to {r.MAX_SIDE} pixels of INPUT.MIN_SIZE_TEST"


def _fcos_strides(cfg: CfgNode) -> list[int] | None:
    """Return the strides of the levels of FCOS, from names such as "p3"; None for other names."""
    names = cfg.MODEL.FCOS.IN_FEATURES
    known = all(name[:1] == "p" and name[1:].isdecimal() for name in names)
    return [2 ** int(name[1:]) for name in names] if known else None


def _salience_classes(model: CfgNode) -> int:
    return len(model.SALIENCE_DETR.LABEL_IDS) or model.SALIENCE_DETR.NUM_CLASSES


def _pixel_width(cfg: CfgNode) -> int:
    return int(cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM)


def _classes_of(node: str, count: Callable[[CfgNode], int]) -> Rules:
    """Return the rule that ROI heads know as many classes as the detector before them."""
    rule = r.equal_to(f"classes of MODEL.{node}", lambda cfg: count(cfg.MODEL))
    return {"MODEL.ROI_HEADS.NUM_CLASSES": rule}


def _is(key: str, *values: Any) -> Rules:
    """Return the rule that a key below ``MODEL`` has one of a few values."""
    return {f"MODEL.{key}": r.one_of(*values)}


_PIXEL_LEVELS = r.names_from("MODEL.SEM_SEG_HEAD.IN_FEATURES", lambda cfg: cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES)
_BACKBONE = r.names_from("features of the backbone", backbone_features)
_LEVELS = r.names_from("feature maps of backbone and pyramid", proposal_levels)
_ROI_LEVELS = r.names_from("feature maps of backbone and pyramid", roi_levels)
_POOLERS = r.one_of("ROIAlignV2", "ROIAlign", "ROIPool")
_SIDES = r.each(r.SIDE, length=2)
_COLOR = r.one_of("BGR", "RGB")
_ON, _OFF = r.one_of(True), r.one_of(False)
_NO_VIEWS = r.plain("False, as Mask2Former has no test-time augmentation", lambda value: value is False)

# Which models and settings the entries of the table are about.
_TWO_STAGE = _is("META_ARCHITECTURE", "GeneralizedRCNN", "SalientObjectRanker")
_RPN = _TWO_STAGE | _is("PROPOSAL_GENERATOR.NAME", "RPN")
_FCOS = _TWO_STAGE | _is("PROPOSAL_GENERATOR.NAME", "FCOS")
_PRETRAINING = _is("META_ARCHITECTURE", "SiameseDETR")
_SALIENCE = _is("META_ARCHITECTURE", "SalienceDETR", "RankingSalienceDETR")
_RANKING_SALIENCE = _is("META_ARCHITECTURE", "RankingSalienceDETR")
_SIAMESE = _is("META_ARCHITECTURE", "DETRDetector", "RankingDETR", "SiameseDETR")
_RANKING_DETR = _is("META_ARCHITECTURE", "RankingDETR")
_MASK_FORMER = _is("META_ARCHITECTURE", "Mask2Former", "RankingMask2Former")
_RANKING_QUERIES = _is("META_ARCHITECTURE", "RankingMask2Former")
_WITH_ROI_HEADS = _is(
    "META_ARCHITECTURE", "GeneralizedRCNN", "SalientObjectRanker", "RankingSalienceDETR", "RankingDETR"
)
_CENTER = _WITH_ROI_HEADS | _is("ROI_HEADS.NAME", "CenterROIHeads")
_BOX_HEADS = _WITH_ROI_HEADS | _is("ROI_HEADS.NAME", "MaskRCNNHeads", "StandardROIHeads", "CascadeROIHeads")
_RANKING = _WITH_ROI_HEADS | _is("ROI_HEADS.NAME", *RANKING_ROI_HEADS)
_BY_SALIENCY, _REFINED = _is("SOR.RANK_BY", "saliency"), _is("SOR.REFINE", True)
_DEFORMABLE = _is("SIAMESE_DETR.TRANSFORMER", "deformable")
_VIEWS: Rules = {"TEST.AUG.ENABLED": _ON}
_SCALED_VIEWS = _VIEWS | {"TEST.AUG.MIN_SIZES": r.one_of((), [])}
_SD, _DETR = "MODEL.SALIENCE_DETR.", "MODEL.SIAMESE_DETR."
_MF, _HEAD = "MODEL.MASK_FORMER.", "MODEL.SEM_SEG_HEAD."

# Each entry: where all the first rules hold, the second ones must hold, too.
TOGETHER: list[tuple[Rules, Rules]] = [
    ({}, {"MODEL.PIXEL_STD": r.as_many_as("MODEL.PIXEL_MEAN")}),
    ({}, {_SD + "DIM": r.related("a multiple of", 32), _DETR + "HIDDEN_DIM": r.related("a multiple of", 4)}),
    ({}, {"MODEL.INSPYRENET.BASE_SIZE": r.related("a multiple of", 32)}),
    ({}, {"INPUT.LSJ.MAX_SCALE": r.related("at least", "INPUT.LSJ.MIN_SCALE")}),
    # backbones and proposals
    (_is("BACKBONE.NAME", *PYRAMIDS), {"MODEL.FPN.IN_FEATURES": _BACKBONE}),
    (_is("RESNETS.DEPTH", 18, 34), {"MODEL.RESNETS.RES2_OUT_CHANNELS": r.one_of(64)}),
    (
        _TWO_STAGE,
        {"MODEL.PROPOSAL_GENERATOR.NAME": r.registered(PROPOSAL_GENERATOR_REGISTRY, "PrecomputedProposals")},
    ),
    (_RPN, {"MODEL.RPN.IN_FEATURES": _LEVELS}),
    (_RPN, {"MODEL.RPN.IOU_LABELS": r.as_many_as("MODEL.RPN.IOU_THRESHOLDS", more=1)}),
    (_FCOS, {"MODEL.FCOS.IN_FEATURES": _LEVELS}),
    (_FCOS, {"MODEL.FCOS.FPN_STRIDES": r.equal_to("strides of MODEL.FCOS.IN_FEATURES", _fcos_strides)}),
    (_FCOS, {"MODEL.FCOS.SIZES_OF_INTEREST": r.as_many_as("MODEL.FCOS.IN_FEATURES", more=-1)}),
    # GroupNorm has 32 groups
    (_FCOS | _is("FCOS.NORM", "GN"), {"MODEL.FPN.OUT_CHANNELS": r.related("a multiple of", 32)}),
    # transformers
    (_SALIENCE, {_SD + "LABEL_IDS": r.each(r.related("below", _SD + "NUM_CLASSES"), least=0)}),
    (_SALIENCE, {_SD + "IN_FEATURES": _BACKBONE}),
    (_SALIENCE, {_SD + "NUM_LEVELS": r.related("at least", _SD + "IN_FEATURES")}),
    (_SALIENCE, {_SD + "NUM_HEADS": r.related("a divisor of", _SD + "DIM")}),
    (_SALIENCE, {_SD + "LEVEL_FILTER_RATIO": r.as_many_as(_SD + "NUM_LEVELS")}),
    (_SALIENCE, {_SD + "LAYER_FILTER_RATIO": r.as_many_as(_SD + "ENC_LAYERS")}),
    (_SALIENCE, {_SD + "SALIENCE_LIMITS": r.as_many_as(_SD + "NUM_LEVELS", more=-1)}),
    (_SIAMESE, {_DETR + "IN_FEATURES": _BACKBONE}),
    (_SIAMESE, {_DETR + "NUM_HEADS": r.related("a divisor of", _DETR + "HIDDEN_DIM")}),
    (_DEFORMABLE, {_DETR + "HIDDEN_DIM": r.related("a multiple of", 32)}),
    (_DEFORMABLE, {_DETR + "NUM_FEATURE_LEVELS": r.related("at least", _DETR + "IN_FEATURES")}),
    # the other transformers predict every box from scratch
    (_is("SIAMESE_DETR.TRANSFORMER", "vanilla", "conditional"), {_DETR + "BOX_REFINE": _OFF}),
    (_PRETRAINING, {_DETR + "NUM_QUERIES": r.related("a multiple of", _DETR + "PRETRAIN.NUM_REGIONS")}),
    # batch norm of the global discrimination head
    (
        _PRETRAINING | {_DETR + "PRETRAIN.GLOBAL_WEIGHT": r.POSITIVE},
        {"SOLVER.IMS_PER_BATCH": r.related("at least", 2)},
    ),
    (_MASK_FORMER, {"MODEL.MASK_ON": _ON, "TEST.AUG.ENABLED": _NO_VIEWS, _HEAD + "NORM": r.NORM}),
    (_MASK_FORMER, {_HEAD + "NUM_CLASSES": r.CLASSES}),
    (_MASK_FORMER, {_HEAD + "IN_FEATURES": _BACKBONE, _HEAD + "COMMON_STRIDE": r.one_of(4)}),
    (_MASK_FORMER, {_HEAD + "DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES": _PIXEL_LEVELS}),
    # GroupNorm has 32 groups, and each needs two values on a map of one cell
    (_MASK_FORMER, {_HEAD + "CONVS_DIM": r.related("a multiple of", 64)}),
    (
        _MASK_FORMER,
        {_HEAD + "DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS": r.related("a divisor of", _HEAD + "CONVS_DIM")},
    ),
    (_MASK_FORMER, {_MF + "HIDDEN_DIM": r.equal_to("MODEL.SEM_SEG_HEAD.CONVS_DIM", _pixel_width)}),
    (_MASK_FORMER, {_MF + "NHEADS": r.related("a divisor of", _MF + "HIDDEN_DIM")}),
    (_RANKING_QUERIES, _is("SOR.NAME", "SinglePredictor", "SinglePredictorWithPos", *_ATTENTION)),
    (
        _RANKING_QUERIES | _is("SOR.NAME", *_ATTENTION),
        {
            "MODEL.SOR.TRANSFORMER.D_MODEL": r.equal_to(
                "MODEL.SOR.OBJ_DIM", lambda cfg: cfg.MODEL.SOR.OBJ_DIM
            ),
            "MODEL.SOR.TRANSFORMER.N_HEAD": r.related("a divisor of", "MODEL.SOR.TRANSFORMER.D_MODEL"),
        },
    ),
    # ROI heads
    (_WITH_ROI_HEADS, {"MODEL.ROI_HEADS.NAME": r.registered(ROI_HEADS_REGISTRY)}),
    (_WITH_ROI_HEADS, {"MODEL.ROI_HEADS.IN_FEATURES": _ROI_LEVELS}),
    (_WITH_ROI_HEADS, {"MODEL.ROI_HEADS.IOU_LABELS": r.as_many_as("MODEL.ROI_HEADS.IOU_THRESHOLDS", more=1)}),
    (_CENTER | _FCOS, _classes_of("FCOS", lambda model: model.FCOS.NUM_CLASSES)),
    (_CENTER | _RANKING_SALIENCE, _classes_of("SALIENCE_DETR", _salience_classes)),
    (_CENTER | _RANKING_DETR, _classes_of("SIAMESE_DETR", lambda model: model.SIAMESE_DETR.NUM_CLASSES)),
    (_BOX_HEADS, {"MODEL.ROI_BOX_HEAD.NAME": r.registered(ROI_BOX_HEAD_REGISTRY)}),
    (_BOX_HEADS, {"MODEL.ROI_BOX_HEAD.POOLER_TYPE": _POOLERS}),
    (_RANKING, {"MODEL.MASK_ON": _ON, "MODEL.KEYPOINT_ON": _OFF}),
    (_RANKING, {"MODEL.ROI_MASK_HEAD.NAME": r.registered(ROI_MASK_HEAD_REGISTRY)}),
    (_RANKING, {"MODEL.ROI_MASK_HEAD.POOLER_TYPE": _POOLERS}),
    (
        _CENTER | _is("MASKIOU_ON", True),
        {"MODEL.ROI_MASKIOU_HEAD.NAME": r.registered(ROI_MASKIOU_HEAD_REGISTRY)},
    ),
    # the ranking branch; Mask R-CNN without a ranking head is MODEL.ROI_HEADS.NAME StandardROIHeads
    (
        _WITH_ROI_HEADS | _is("ROI_HEADS.NAME", "MaskRCNNHeads"),
        {"MODEL.SOR.NAME": r.registered(SOR_HEAD_REGISTRY)},
    ),
    (
        _RANKING | _is("SOR.NAME", *_ATTENTION),
        {
            "MODEL.SOR.TRANSFORMER.D_MODEL": r.equal_to("MODEL.SOR.OBJ_DIM and position", _object_width),
            "MODEL.SOR.TRANSFORMER.N_HEAD": r.related("a divisor of", "MODEL.SOR.TRANSFORMER.D_MODEL"),
        },
    ),
    (_is("SOR.LOSS", "plackett_luce", "pairwise"), {"MODEL.SOR.NUM_RANKS": r.whole(2, 1000)}),
    (_BY_SALIENCY, {"MODEL.SOR.REFINER.CONFIG": r.CONFIG_FILE, "INPUT.FORMAT": _COLOR}),
    (_REFINED | _is("SOR.REFINER.METHOD", "network"), {"MODEL.SOR.REFINER.CONFIG": r.CONFIG_FILE}),
    (_REFINED, {"INPUT.FORMAT": _COLOR}),
    (_is("META_ARCHITECTURE", "InSPyReNet"), {"INPUT.FORMAT": _COLOR}),
    # images and training
    ({"INPUT.COLOR.ENABLED": _ON}, {"INPUT.FORMAT": _COLOR}),
    ({"INPUT.MIN_SIZE_TRAIN_SAMPLING": r.one_of("range")}, {"INPUT.MIN_SIZE_TRAIN": r.rising(_SIDES)}),
    (
        {"INPUT.CROP.TYPE": r.one_of("relative", "relative_range")},
        {"INPUT.CROP.SIZE": r.each(r.ABOVE_ZERO_SHARE, length=2)},
    ),
    ({"INPUT.CROP.TYPE": r.one_of("absolute")}, {"INPUT.CROP.SIZE": _SIDES}),
    ({"INPUT.CROP.TYPE": r.one_of("absolute_range")}, {"INPUT.CROP.SIZE": r.rising(_SIDES)}),
    (_is("MASK_ON", False), {"INPUT.COPY_PASTE.ENABLED": _OFF}),
    ({"SOLVER.NESTEROV": _ON}, {"SOLVER.MOMENTUM": r.POSITIVE}),
    # test-time augmentation
    (_SCALED_VIEWS, {"INPUT.MIN_SIZE_TEST": r.SIDE}),
    (_SCALED_VIEWS, {"TEST.AUG.SCALES": r.Rule(_expected_scales, _fits_scaled_views)}),
    # views have sizes of their own
    (_VIEWS | _RANKING_SALIENCE | {_SD + "TEST_RESIZE": _SIDES}, {"TEST.AUG.ENABLED": _OFF}),
]


def class_key(cfg: CfgNode) -> str | None:
    """Return the key that holds the classes of a detector, as a number or a list; None for other models."""
    if all(rule.holds(r.value_of(cfg, key), cfg) for key, rule in _FCOS.items()):
        return "MODEL.FCOS.NUM_CLASSES"
    keys = {
        **dict.fromkeys(("GeneralizedRCNN", "SalientObjectRanker"), "MODEL.ROI_HEADS.NUM_CLASSES"),
        **dict.fromkeys(("DETRDetector", "RankingDETR"), _DETR + "NUM_CLASSES"),
        **dict.fromkeys(("Mask2Former", "RankingMask2Former"), _HEAD + "NUM_CLASSES"),
        **dict.fromkeys(
            ("SalienceDETR", "RankingSalienceDETR"),
            _SD + ("LABEL_IDS" if cfg.MODEL.SALIENCE_DETR.LABEL_IDS else "NUM_CLASSES"),
        ),
    }
    return keys.get(cfg.MODEL.META_ARCHITECTURE)
