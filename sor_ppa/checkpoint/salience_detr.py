"""Names of the published Salience-DETR -> ours.

The transformer keeps most names. Backbones become detectron2's ResNet, torchvision's Swin and ConvNeXt
feature lists, or timm's FocalNet. Constants that the published code stores as buffers are dropped, and
so is the second copy of the encoder's class head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .rename import Rules, apply_rules, rename_keys, resnet_name

__all__ = ["convert", "published_to_ours"]

_DROPPED = re.compile(
    r"^(_classes_$|position_embedding\.dim_t[xy]$|transformer\.(level|layer)_filter_ratio$"
    r"|transformer\.encoder\.enhance_mcsp\.)"
)
_RESNET = re.compile(r"^backbone\.(conv1|bn1|layer\d)\.")
_FOCAL_LINEAR = re.compile(r"^backbone\.net\..*\.(modulation\.(f|proj)|mlp\.fc\d)\.weight$")
_RULES: Rules = {
    r"^denoising_generator\.": "denoising.",
    r"^transformer\.alpha$": "transformer.salience.alpha",
    r"^transformer\.enc_mask_predictor\.": "transformer.salience.predictor.",
    # Swin and ConvNeXt
    r"^backbone\.0\.features\.": "backbone.features.",
    # FocalNet -> timm, which has the downsampling at the start of a stage
    r"^backbone\.0\.patch_embed\.": "backbone.net.stem.",
    r"^backbone\.0\.layers\.(\d)\.downsample\.": (
        lambda m: f"backbone.net.layers.{int(m[1]) + 1}.downsample."
    ),
    r"^backbone\.0\.layers\.(\d)\.blocks\.": r"backbone.net.layers.\1.blocks.",
    r"^backbone\.1\.norm(\d)\.": r"backbone.norms.\1.",
    r"(^backbone\.net\..*blocks\.\d+)\.gamma_(\d)$": r"\1.ls\2.gamma",
    r"(^backbone\.net\..*blocks\.\d+)\.norm(\d)\.": r"\1.norm\2_post.",
}


def published_to_ours(name: str) -> str:
    """Return our name of a published parameter; any other name, ours included, comes back unchanged."""
    if _RESNET.match(name):
        return "backbone." + resnet_name(name.removeprefix("backbone."))
    return apply_rules(name, _RULES)


def convert(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the parameters of a published Salience-DETR.

    Raises:
        CheckpointError: if two published names map to one of ours.
    """
    kept = {name: value for name, value in state_dict.items() if not _DROPPED.match(name)}
    renamed = rename_keys(kept, published_to_ours)
    for name, value in renamed.items():
        if _FOCAL_LINEAR.match(name) and getattr(value, "ndim", 0) == 2:
            renamed[name] = value[:, :, None, None]  # timm has 1x1 convolutions for linear layers
    return renamed
