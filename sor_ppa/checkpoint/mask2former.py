"""Names of the published Mask2Former -> ours.

Backbone, layers and heads keep their names; the three modules of a decoder layer become one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from .rename import Rules, apply_rules, rename_keys

__all__ = ["convert"]

T = TypeVar("T")

_PREDICTOR = r"^sem_seg_head\.predictor\."
_LAYERS = _PREDICTOR + r"transformer_"
_RULES: Rules = {
    # files of MaskFormer's time have the pixel decoder without its name
    r"^sem_seg_head\.(?!pixel_decoder\.|predictor\.)": "pixel_decoder.",
    r"^sem_seg_head\.pixel_decoder\.": "pixel_decoder.",
    r"^pixel_decoder\.transformer\.": "pixel_decoder.",
    _LAYERS + r"cross_attention_layers\.(\d+)\.multihead_attn\.": r"decoder.layers.\1.cross_attn.",
    _LAYERS + r"cross_attention_layers\.(\d+)\.norm\.": r"decoder.layers.\1.norm1.",
    _LAYERS + r"self_attention_layers\.(\d+)\.self_attn\.": r"decoder.layers.\1.self_attn.",
    _LAYERS + r"self_attention_layers\.(\d+)\.norm\.": r"decoder.layers.\1.norm2.",
    _LAYERS + r"ffn_layers\.(\d+)\.norm\.": r"decoder.layers.\1.norm3.",
    _LAYERS + r"ffn_layers\.(\d+)\.": r"decoder.layers.\1.",
    _PREDICTOR + r"static_query\.": "decoder.query_feat.",
    _PREDICTOR: "decoder.",
    r"^backbone\.(patch_embed|layers|norm\d)\.": r"backbone.swin.\1.",
}
# Computed by our Swin itself.
_BUFFERS = (".relative_position_index", ".attn_mask")


def convert(state_dict: Mapping[str, T]) -> dict[str, T]:
    """Rename the parameters of a published Mask2Former.

    Raises:
        CheckpointError: if two published names map to one of ours.
    """
    kept = {name: value for name, value in state_dict.items() if not name.endswith(_BUFFERS)}
    return rename_keys(kept, lambda name: apply_rules(name, _RULES))
