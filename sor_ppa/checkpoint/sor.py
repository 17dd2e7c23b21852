"""Names of the published SOR code (and of CenterMask2, on which it stands) -> ours.

Only the VoVNetV2 backbone differs: published names repeat the module's path inside the name of a layer
(``stage2.OSA2_1.layers.0.OSA2_1_0/conv``), ours are the path itself (``stage2.blocks.0.layers.0.conv``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .rename import apply_rules, rename_keys, rules

__all__ = ["convert", "published_to_ours"]

T = TypeVar("T")

# The part of a published layer name behind its slash, and ours where it differs.
_UNITS = {"dw_conv3x3": "depthwise", "pw_conv1x1": "pointwise", "pw_norm": "norm"}
_UNIT = rf"/(?P<unit>{'|'.join(_UNITS)}|conv_offset|conv|norm)\."
_BLOCK = r"(?<![^.])blocks\.(?P<block>\d+)\."
_OSA = r"OSA\d+_\d+"


def _unit(published: str) -> str:
    return _UNITS.get(published, published)


_VOVNET = rules(
    {
        rf"(?<![^.])stem\.stem_(?P<index>[1-9]\d*){_UNIT}": lambda m: (
            f"stem.{int(m['index']) - 1}.{_unit(m['unit'])}."
        ),
        r"(?<![^.])stage(?P<stage>\d+)\.OSA(?P=stage)_(?P<index>[1-9]\d*)\.": lambda m: (
            f"stage{m['stage']}.blocks.{int(m['index']) - 1}."
        ),
        rf"{_BLOCK}layers\.(?P<index>\d+)\.{_OSA}_(?P=index){_UNIT}": lambda m: (
            f"blocks.{m['block']}.layers.{m['index']}.{_unit(m['unit'])}."
        ),
        rf"{_BLOCK}(conv_)?(?P<part>concat|reduction)\.{_OSA}_(concat|reduction_0){_UNIT}": lambda m: (
            f"blocks.{m['block']}.{m['part']}.{_unit(m['unit'])}."
        ),
    }
)


def published_to_ours(name: str) -> str:
    """Return our name of a published parameter; any other name, ours included, comes back unchanged."""
    return apply_rules(name, _VOVNET)


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename the parameters of a published SOR or CenterMask2 model, or of its bare backbone.

    Raises:
        CheckpointError: if two published names map to one of ours.
    """
    return rename_keys(state_dict, published_to_ours)
