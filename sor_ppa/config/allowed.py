"""The table of allowed values, and its one check.

The table is :data:`~.ranges.RANGES`, what each key may be by itself, followed by what some keys may be
beside others. Keys that have no row (switches) must have the type of their default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY, ROI_MASK_HEAD_REGISTRY
from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY

from .errors import ConfigError
from .features import backbone_features, has_pyramid, proposal_levels, roi_levels
from .keys import add_sor_config
from .ranges import RANGES
from .registries import ROI_MASKIOU_HEAD_REGISTRY, SOR_HEAD_REGISTRY
from .rules import (
    Condition,
    Row,
    Rule,
    as_many_as,
    counted_by,
    divisor_of,
    each,
    existing_file,
    multiple_of,
    names_from,
    number,
    one_of,
    registered,
    rising,
    rows,
    whole,
)
from .thresholds import RANKING_ROI_HEADS

__all__ = ["ALLOWED", "check_config"]

_TWO_STAGE = ("GeneralizedRCNN", "SalientObjectRanker")
_WITH_ROI_HEADS = (*_TWO_STAGE, "RankingSalienceDETR", "RankingDETR")
_MAX_SIDE = 65535  # of a view, in pixels
# ranking heads whose objects attend to each other, and how many position values they append to OBJ_DIM
_ATTENTION = {
    "SelfAttentionPredictor": 0,
    "SelfAttentionWithPosCat": 0,
    "SelfAttentionWithPosConvCat": 0,
    "SelfAttentionWithOtherPos": 4,
    "SelfAttentionWithOtherPosQuant": 0,
}


def _architecture(*names: str) -> Condition:
    return lambda cfg: cfg.MODEL.META_ARCHITECTURE in names


def _proposals(*names: str) -> Condition:
    return lambda cfg: _architecture(*_TWO_STAGE)(cfg) and cfg.MODEL.PROPOSAL_GENERATOR.NAME in names


def _roi_heads(*names: str) -> Condition:
    return lambda cfg: _architecture(*_WITH_ROI_HEADS)(cfg) and cfg.MODEL.ROI_HEADS.NAME in names


def _object_width(cfg: CfgNode) -> int:
    """Return the number of values that describe an object to the encoder of the ranking head."""
    return cfg.MODEL.SOR.OBJ_DIM + _ATTENTION[cfg.MODEL.SOR.NAME]


def _needs_saliency_model(cfg: CfgNode) -> bool:
    sor = cfg.MODEL.SOR
    return sor.RANK_BY == "saliency" or (sor.REFINE and sor.REFINER.METHOD == "network")


def _needs_color(cfg: CfgNode) -> bool:
    sor = cfg.MODEL.SOR
    return (
        _architecture("InSPyReNet")(cfg) or sor.REFINE or sor.RANK_BY == "saliency" or cfg.INPUT.COLOR.ENABLED
    )


def _has_scaled_views(cfg: CfgNode) -> bool:
    return cfg.TEST.AUG.ENABLED and not cfg.TEST.AUG.MIN_SIZES


def _fits_scaled_views(scales: Any, cfg: CfgNode) -> bool:
    sizes = [min(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST) * scale for scale in scales]
    return bool(sizes) and all(1 <= round(size) <= _MAX_SIDE for size in sizes)


def _fcos_strides(cfg: CfgNode) -> list[int] | None:
    """Return the strides of the levels of FCOS, from names such as "p3"; None for other names."""
    names = cfg.MODEL.FCOS.IN_FEATURES
    known = all(name[:1] == "p" and name[1:].isdecimal() for name in names)
    return [2 ** int(name[1:]) for name in names] if known else None


def _detector_classes(cfg: CfgNode) -> tuple[int, str]:
    """Return the number of classes that the detector before ``CenterROIHeads`` knows, and its node."""
    model = cfg.MODEL
    if model.META_ARCHITECTURE == "RankingSalienceDETR":
        return len(model.SALIENCE_DETR.LABEL_IDS) or model.SALIENCE_DETR.NUM_CLASSES, "MODEL.SALIENCE_DETR"
    if model.META_ARCHITECTURE == "RankingDETR":
        return model.SIAMESE_DETR.NUM_CLASSES, "MODEL.SIAMESE_DETR"
    return (model.FCOS if _proposals("FCOS")(cfg) else model.ROI_HEADS).NUM_CLASSES, "MODEL.FCOS"


_BACKBONE = names_from("features of the backbone", backbone_features)
_POOLERS = one_of("ROIAlignV2", "ROIAlign", "ROIPool")
_LEVELS = names_from("feature maps of backbone and pyramid", proposal_levels)

_TOGETHER = [
    *rows("MODEL", {"PIXEL_STD": as_many_as("MODEL.PIXEL_MEAN")}),
    *rows("MODEL.FPN", {"IN_FEATURES": _BACKBONE}, has_pyramid),
    *rows(
        "MODEL.RESNETS", {"RES2_OUT_CHANNELS": one_of(64)}, lambda cfg: cfg.MODEL.RESNETS.DEPTH in (18, 34)
    ),
    *rows(
        "MODEL.PROPOSAL_GENERATOR",
        {"NAME": registered(PROPOSAL_GENERATOR_REGISTRY, "PrecomputedProposals")},
        _architecture(*_TWO_STAGE),
    ),
    *rows(
        "MODEL.RPN",
        {"IN_FEATURES": _LEVELS, "IOU_LABELS": as_many_as("MODEL.RPN.IOU_THRESHOLDS", more=1)},
        _proposals("RPN"),
    ),
    *rows(
        "MODEL.FCOS",
        {
            "IN_FEATURES": _LEVELS,
            "FPN_STRIDES": Rule(
                lambda cfg: f"{_fcos_strides(cfg)} (strides of MODEL.FCOS.IN_FEATURES)",
                lambda value, cfg: _fcos_strides(cfg) in (None, list(value)),
            ),
            "SIZES_OF_INTEREST": as_many_as("MODEL.FCOS.IN_FEATURES", more=-1),
        },
        _proposals("FCOS"),
    ),
    *rows(
        "MODEL.FPN",
        {"OUT_CHANNELS": multiple_of(32)},  # GroupNorm has 32 groups
        lambda cfg: _proposals("FCOS")(cfg) and cfg.MODEL.FCOS.NORM == "GN",
    ),
    *rows(
        "MODEL.SALIENCE_DETR",
        {
            "LABEL_IDS": Rule(
                lambda cfg: (
                    f"numbers below {cfg.MODEL.SALIENCE_DETR.NUM_CLASSES} (MODEL.SALIENCE_DETR.NUM_CLASSES)"
                ),
                lambda value, cfg: max(value, default=0) < cfg.MODEL.SALIENCE_DETR.NUM_CLASSES,
            ),
            "IN_FEATURES": _BACKBONE,
            "NUM_LEVELS": counted_by("MODEL.SALIENCE_DETR.IN_FEATURES"),
            "NUM_HEADS": divisor_of("MODEL.SALIENCE_DETR.DIM"),
            "LEVEL_FILTER_RATIO": as_many_as("MODEL.SALIENCE_DETR.NUM_LEVELS"),
            "LAYER_FILTER_RATIO": as_many_as("MODEL.SALIENCE_DETR.ENC_LAYERS"),
            "SALIENCE_LIMITS": as_many_as("MODEL.SALIENCE_DETR.NUM_LEVELS", more=-1),
        },
        _architecture("SalienceDETR", "RankingSalienceDETR"),
    ),
    *rows(
        "MODEL.SIAMESE_DETR",
        {"IN_FEATURES": _BACKBONE, "NUM_HEADS": divisor_of("MODEL.SIAMESE_DETR.HIDDEN_DIM")},
        _architecture("DETRDetector", "RankingDETR", "SiameseDETR"),
    ),
    *rows(
        "MODEL.SIAMESE_DETR",
        {"HIDDEN_DIM": multiple_of(32), "NUM_FEATURE_LEVELS": counted_by("MODEL.SIAMESE_DETR.IN_FEATURES")},
        lambda cfg: cfg.MODEL.SIAMESE_DETR.TRANSFORMER == "deformable",
    ),
    *rows(
        "MODEL.SIAMESE_DETR",
        {"BOX_REFINE": one_of(False)},  # the other transformers predict every box from scratch
        lambda cfg: cfg.MODEL.SIAMESE_DETR.TRANSFORMER != "deformable",
    ),
    *rows(
        "MODEL.SIAMESE_DETR",
        {"NUM_QUERIES": multiple_of("MODEL.SIAMESE_DETR.PRETRAIN.NUM_REGIONS")},
        _architecture("SiameseDETR"),
    ),
    *rows(
        "MODEL.ROI_HEADS",
        {
            "NAME": registered(ROI_HEADS_REGISTRY),
            "IN_FEATURES": names_from("feature maps of backbone and pyramid", roi_levels),
            "IOU_LABELS": as_many_as("MODEL.ROI_HEADS.IOU_THRESHOLDS", more=1),
        },
        _architecture(*_WITH_ROI_HEADS),
    ),
    *rows(
        "MODEL.ROI_HEADS",
        {
            "NUM_CLASSES": Rule(
                lambda cfg: "{} (classes of {})".format(*_detector_classes(cfg)),
                lambda value, cfg: value == _detector_classes(cfg)[0],
            )
        },
        _roi_heads("CenterROIHeads"),
    ),
    *rows(
        "MODEL.ROI_BOX_HEAD",
        {"NAME": registered(ROI_BOX_HEAD_REGISTRY), "POOLER_TYPE": _POOLERS},
        _roi_heads("MaskRCNNHeads", "StandardROIHeads", "CascadeROIHeads"),
    ),
    *rows(
        "MODEL",
        {
            "MASK_ON": one_of(True),
            "KEYPOINT_ON": one_of(False),
            "ROI_MASK_HEAD.NAME": registered(ROI_MASK_HEAD_REGISTRY),
            "ROI_MASK_HEAD.POOLER_TYPE": _POOLERS,
        },
        _roi_heads(*RANKING_ROI_HEADS),
    ),
    *rows(
        "MODEL.ROI_MASKIOU_HEAD",
        {"NAME": registered(ROI_MASKIOU_HEAD_REGISTRY)},
        lambda cfg: _roi_heads("CenterROIHeads")(cfg) and cfg.MODEL.MASKIOU_ON,
    ),
    # Mask R-CNN without a ranking head is MODEL.ROI_HEADS.NAME StandardROIHeads
    *rows("MODEL.SOR", {"NAME": registered(SOR_HEAD_REGISTRY)}, _roi_heads("MaskRCNNHeads")),
    *rows(
        "MODEL.SOR.TRANSFORMER",
        {
            "D_MODEL": Rule(
                lambda cfg: f"{_object_width(cfg)} (MODEL.SOR.OBJ_DIM and position)",
                lambda value, cfg: value == _object_width(cfg),
            ),
            "N_HEAD": divisor_of("MODEL.SOR.TRANSFORMER.D_MODEL"),
        },
        lambda cfg: _roi_heads(*RANKING_ROI_HEADS)(cfg) and cfg.MODEL.SOR.NAME in _ATTENTION,
    ),
    *rows("MODEL.SOR.REFINER", {"CONFIG": existing_file("a saliency model's config")}, _needs_saliency_model),
    *rows("INPUT", {"FORMAT": one_of("BGR", "RGB")}, _needs_color),
    *rows(
        "INPUT",
        {"MIN_SIZE_TRAIN": rising(each(whole(1, _MAX_SIDE), length=2))},
        lambda cfg: cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "range",
    ),
    *rows(
        "INPUT.CROP",
        {"SIZE": each(number("(0, 1]"), length=2)},
        lambda cfg: cfg.INPUT.CROP.TYPE.startswith("relative"),
    ),
    *rows(
        "INPUT.CROP",
        {"SIZE": each(whole(1, _MAX_SIDE), length=2)},
        lambda cfg: cfg.INPUT.CROP.TYPE == "absolute",
    ),
    *rows(
        "INPUT.CROP",
        {"SIZE": rising(each(whole(1, _MAX_SIDE), length=2))},
        lambda cfg: cfg.INPUT.CROP.TYPE == "absolute_range",
    ),
    *rows(
        "INPUT.LSJ",
        {
            "MAX_SCALE": Rule(
                lambda cfg: f"at least {cfg.INPUT.LSJ.MIN_SCALE} (INPUT.LSJ.MIN_SCALE)",
                lambda value, cfg: value >= cfg.INPUT.LSJ.MIN_SCALE,
            )
        },
    ),
    *rows("INPUT.COPY_PASTE", {"ENABLED": one_of(False)}, lambda cfg: not cfg.MODEL.MASK_ON),
    *rows(
        "SOLVER",
        {"LR_SCHEDULER_NAME": one_of("WarmupMultiStepLR", "WarmupCosineLR", "WarmupPolynomialLR")},
        lambda cfg: "NUM_DECAYS" not in cfg.SOLVER,  # detectron2 0.6; later versions know one more
    ),
    *rows("SOLVER", {"MOMENTUM": number("(0, 1)")}, lambda cfg: cfg.SOLVER.NESTEROV),
    *rows(
        "SOLVER",
        {"IMS_PER_BATCH": whole(2, 1_000_000)},  # batch norm of the global discrimination head
        lambda cfg: _architecture("SiameseDETR")(cfg) and cfg.MODEL.SIAMESE_DETR.PRETRAIN.GLOBAL_WEIGHT,
    ),
    *rows("INPUT", {"MIN_SIZE_TEST": whole(1, _MAX_SIDE)}, _has_scaled_views),
    *rows(
        "TEST.AUG",
        {
            "SCALES": Rule(
                lambda cfg: f"at least one, each giving 1 to {_MAX_SIDE} pixels of INPUT.MIN_SIZE_TEST",
                _fits_scaled_views,
            )
        },
        _has_scaled_views,
    ),
    *rows(
        "TEST.AUG",
        {"ENABLED": one_of(False)},  # views have sizes of their own
        lambda cfg: _architecture("RankingSalienceDETR")(cfg) and cfg.MODEL.SALIENCE_DETR.TEST_RESIZE,
    ),
]

ALLOWED: list[Row] = [*RANGES, *_TOGETHER]

_TYPES = {
    bool: ((bool,), "True or False"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    list: ((list, tuple), "a list"),
    tuple: ((list, tuple), "a list"),
}


def flat(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key and its value."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def check_config(cfg: CfgNode, *, model: bool = True) -> None:
    """Check every value against the table.

    Args:
        cfg: a complete configuration.
        model: check the keys below ``MODEL``, too.

    Raises:
        ConfigError: for the first value that is not allowed.
    """
    values = {key: value for key, value in flat(cfg) if model or not key.startswith("MODEL.")}
    defaults = get_cfg()
    add_sor_config(defaults)
    described = {row.key for row in ALLOWED}
    for key, default in flat(defaults):
        if key in values and key not in described and type(default) in _TYPES:
            types, expected = _TYPES[type(default)]
            is_switch = isinstance(values[key], bool)
            if not isinstance(values[key], types) or is_switch != isinstance(default, bool):
                raise _refusal(key, expected, values[key])
    for row in ALLOWED:
        if row.key not in values or (row.when is not None and not row.when(cfg)):
            continue
        if not row.rule.holds(values[row.key], cfg):
            raise _refusal(row.key, row.rule.expected(cfg), values[row.key])


def _refusal(key: str, expected: str, value: Any) -> ConfigError:
    found = repr(value)
    return ConfigError(
        f"{key}: expected {expected}, found {found if len(found) < 100 else found[:96] + ' ...'}"
    )
