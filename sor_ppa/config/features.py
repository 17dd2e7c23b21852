"""Names of the feature maps that a configuration's backbone and pyramid give, without building them."""

from __future__ import annotations

from detectron2.config import CfgNode

from .rules import value_of

__all__ = ["PYRAMIDS", "backbone_features", "proposal_levels", "roi_levels"]

_RESNETS, _VOVNET = "MODEL.RESNETS.OUT_FEATURES", "MODEL.VOVNET.OUT_FEATURES"
# builder -> key of the backbone's features, and levels that a pyramid adds above them (None: no pyramid)
_BUILDERS: dict[str, tuple[str, int | str | None]] = {
    "build_resnet_backbone": (_RESNETS, None),
    "build_mnv2_backbone": (_RESNETS, None),
    "build_vovnet_backbone": (_VOVNET, None),
    "build_swin_backbone": ("MODEL.SWIN.OUT_FEATURES", None),
    "build_pyramid_backbone": ("MODEL.PYRAMID_BACKBONE.OUT_FEATURES", None),
    "build_resnet_fpn_backbone": (_RESNETS, 1),
    "build_mobilenetv2_fpn_backbone": (_RESNETS, 1),
    "build_vovnet_fpn_backbone": (_VOVNET, 1),
    "build_retinanet_resnet_fpn_backbone": (_RESNETS, 2),
    "build_fcos_resnet_fpn_backbone": (_RESNETS, "MODEL.FCOS.TOP_LEVELS"),
    "build_fcos_mobilenetv2_fpn_backbone": (_RESNETS, "MODEL.FCOS.TOP_LEVELS"),
    "build_fcos_vovnet_fpn_backbone": (_VOVNET, "MODEL.FCOS.TOP_LEVELS"),
}


PYRAMIDS = tuple(name for name, (_, levels) in _BUILDERS.items() if levels is not None)


def backbone_features(cfg: CfgNode) -> list[str] | None:
    """Return the backbone's feature maps; None where its builder is not known."""
    if cfg.MODEL.BACKBONE.NAME not in _BUILDERS:
        return None
    return list(value_of(cfg, _BUILDERS[cfg.MODEL.BACKBONE.NAME][0]))


def _stage(feature: str) -> int:
    """Return log2 of a feature's stride: the digit in "res3" or "stage3", 2 for the stem."""
    return int(feature[-1]) if feature[-1:].isdigit() else 2


def proposal_levels(cfg: CfgNode) -> list[str] | None:
    """Return the feature maps that a proposal generator reads; None where they are not known."""
    features = backbone_features(cfg)
    if features is None or cfg.MODEL.BACKBONE.NAME not in PYRAMIDS:
        return features
    above = _BUILDERS[cfg.MODEL.BACKBONE.NAME][1]
    stages = [_stage(name) for name in cfg.MODEL.FPN.IN_FEATURES]
    more = value_of(cfg, above) if isinstance(above, str) else int(above or 0)
    return [f"p{stage}" for stage in (*stages, *range(max(stages) + 1, max(stages) + 1 + more))]


def roi_levels(cfg: CfgNode) -> list[str] | None:
    """Return the feature maps that ROI heads read; None where they are not known."""
    features = backbone_features(cfg)
    if cfg.MODEL.META_ARCHITECTURE == "RankingSalienceDETR":
        first = _stage(cfg.MODEL.SALIENCE_DETR.IN_FEATURES[0])
        return [f"p{first + level}" for level in range(cfg.MODEL.SALIENCE_DETR.NUM_LEVELS)]
    if cfg.MODEL.META_ARCHITECTURE == "RankingDETR":
        top = _stage(cfg.MODEL.SIAMESE_DETR.IN_FEATURES[-1])
        return features and [f"p{_stage(name)}" for name in features if _stage(name) <= top]
    return proposal_levels(cfg)
