"""Names of the published SOR code (and of CenterMask2, on which it stands) -> ours.

Only the VoVNetV2 backbone differs: published names repeat the module's path inside the name of a layer
(``stage2.OSA2_1.layers.0.OSA2_1_0/conv``), ours are the path itself (``stage2.blocks.0.layers.0.conv``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .rename import Rules, apply_rules, rename_keys

__all__ = ["convert", "published_to_ours"]

T = TypeVar("T")

_VOVNET: Rules = {
    r"(?<![^.])stem\.stem_([1-9]\d*)/": lambda m: f"stem.{int(m[1]) - 1}.",
    r"(?<![^.])stage(\d+)\.OSA\1_([1-9]\d*)\.": lambda m: f"stage{m[1]}.blocks.{int(m[2]) - 1}.",
    r"\.(?:conv_)?(layers\.\d+|concat|reduction)\.OSA\d+_\d+_\w+/": r".\1.",
    r"(?<=\.)dw_conv3x3\.": "depthwise.",
    r"(?<=\.)pw_conv1x1\.": "pointwise.",
    r"(?<=\.)pw_norm\.": "norm.",
}


def published_to_ours(name: str) -> str:
    """Return our name of a published parameter; any other name, ours included, comes back unchanged."""
    return apply_rules(name, _VOVNET)


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename the parameters of a published SOR or CenterMask2 model, or of its bare backbone.

    Raises:
        CheckpointError: if two published names map to one of ours.
    """
    return rename_keys(state_dict, published_to_ours)
