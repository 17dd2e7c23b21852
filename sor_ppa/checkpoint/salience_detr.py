"""Names of the published Salience-DETR -> ours.

Its transformer keeps most names. Backbones become detectron2's ResNet, torchvision's Swin and ConvNeXt
feature lists, or timm's FocalNet. Constants that the published code stores as buffers are dropped, and
so is the second copy of the encoder's class head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from .rename import Rule, apply_rules, rename_keys, resnet_name

__all__ = ["convert", "published_to_ours"]

T = TypeVar("T")

_DROPPED = re.compile(
    r"^(_classes_$|position_embedding\.dim_t[xy]$|transformer\.(level|layer)_filter_ratio$"
    r"|transformer\.encoder\.enhance_mcsp\.)"
)


_RESNET = re.compile(r"^backbone\.(conv1|bn1|layer\d)\.")
_FOCAL_LINEAR = re.compile(r"^backbone\.net\..*\.(modulation\.(f|proj)|mlp\.fc\d)\.weight$")

_RULES: tuple[Rule, ...] = (
    (re.compile(r"^denoising_generator\."), "denoising."),
    (re.compile(r"^transformer\.alpha$"), "transformer.salience.alpha"),
    (re.compile(r"^transformer\.enc_mask_predictor\."), "transformer.salience.predictor."),
    # Swin and ConvNeXt: the same feature list
    (re.compile(r"^backbone\.0\.features\."), "backbone.features."),
    # FocalNet -> timm; timm has the downsampling at the start of a stage
    (re.compile(r"^backbone\.0\.patch_embed\."), "backbone.net.stem."),
    (
        re.compile(r"^backbone\.0\.layers\.(?P<stage>\d)\.downsample\."),
        lambda m: f"backbone.net.layers.{int(m['stage']) + 1}.downsample.",
    ),
    (re.compile(r"^backbone\.0\.layers\.(?P<stage>\d)\.blocks\."), r"backbone.net.layers.\g<stage>.blocks."),
    (re.compile(r"^backbone\.1\.norm(?P<stage>\d)\."), r"backbone.norms.\g<stage>."),
    (re.compile(r"(?P<block>^backbone\.net\..*blocks\.\d+)\.gamma_(?P<i>\d)$"), r"\g<block>.ls\g<i>.gamma"),
    (re.compile(r"(?P<block>^backbone\.net\..*blocks\.\d+)\.norm(?P<i>\d)\."), r"\g<block>.norm\g<i>_post."),
)


def published_to_ours(name: str) -> str:
    """Return our name of a published parameter; any other name, ours included, comes back unchanged."""
    if _RESNET.match(name):
        return "backbone." + resnet_name(name.removeprefix("backbone."))
    return apply_rules(name, _RULES)


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename the parameters of a published Salience-DETR.

    Args:
        state_dict: published name -> tensor.

    Returns:
        Our name -> the same tensor. Converting twice changes nothing.

    Raises:
        CheckpointError: if two published names map to one of ours.
    """
    kept = {name: value for name, value in state_dict.items() if not _DROPPED.match(name)}
    renamed = rename_keys(kept, published_to_ours)
    return {name: _as_kernel(name, value) for name, value in renamed.items()}


def _as_kernel(name: str, value: Any) -> Any:
    """timm writes the linear layers of FocalNet as 1x1 convolutions."""
    if _FOCAL_LINEAR.match(name) and getattr(value, "ndim", 0) == 2:
        return value[:, :, None, None]
    return value
