"""Names of the published SOR code (and of CenterMask2, on which it stands) -> ours.

Only the VoVNetV2 backbone differs: published names repeat the module's path inside the name of a layer
(``stage2.OSA2_1.layers.0.OSA2_1_0/conv``), ours are the path itself (``stage2.blocks.0.layers.0.conv``).
FPN, FCOS head, mask head, mask IoU head, ranking heads, ResNets and MobileNetV2 keep their published names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from .rename import Rule, apply_rules, rename_keys

__all__ = ["convert", "published_to_ours"]

T = TypeVar("T")

# The part of a published layer name behind its slash, and ours.
_UNITS = {
    "conv": "conv",
    "norm": "norm",
    "conv_offset": "conv_offset",
    "dw_conv3x3": "depthwise",
    "pw_conv1x1": "pointwise",
    "pw_norm": "norm",
}
_UNIT = rf"/(?P<unit>{'|'.join(sorted(_UNITS, key=len, reverse=True))})\."


_BLOCK = r"(?<![^.])blocks\.(?P<block>\d+)\."
_OSA = r"OSA\d+_\d+"

_VOVNET_RULES: tuple[Rule, ...] = (
    (
        re.compile(rf"(?<![^.])stem\.stem_(?P<index>[1-9]\d*){_UNIT}"),
        lambda m: f"stem.{int(m['index']) - 1}.{_UNITS[m['unit']]}.",
    ),
    (
        re.compile(r"(?<![^.])stage(?P<stage>\d+)\.OSA(?P=stage)_(?P<index>[1-9]\d*)\."),
        lambda m: f"stage{m['stage']}.blocks.{int(m['index']) - 1}.",
    ),
    (
        re.compile(rf"{_BLOCK}layers\.(?P<index>\d+)\.{_OSA}_(?P=index){_UNIT}"),
        lambda m: f"blocks.{m['block']}.layers.{m['index']}.{_UNITS[m['unit']]}.",
    ),
    (
        re.compile(rf"{_BLOCK}concat\.{_OSA}_concat{_UNIT}"),
        lambda m: f"blocks.{m['block']}.concat.{_UNITS[m['unit']]}.",
    ),
    (
        re.compile(rf"{_BLOCK}conv_reduction\.{_OSA}_reduction_0{_UNIT}"),
        lambda m: f"blocks.{m['block']}.reduction.{_UNITS[m['unit']]}.",
    ),
)


def published_to_ours(name: str) -> str:
    """Return our name of a published parameter; any other name, ours included, comes back unchanged."""
    return apply_rules(name, _VOVNET_RULES)


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename the parameters of a published SOR or CenterMask2 model, or of its bare backbone.

    Args:
        state_dict: published name -> tensor; a prefix such as ``backbone.bottom_up.`` may be present or not.

    Returns:
        Our name -> the same tensor, none dropped. Converting twice changes nothing.

    Raises:
        CheckpointError: if two published names map to one of ours.
    """
    return rename_keys(state_dict, published_to_ours)
