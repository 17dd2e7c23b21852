"""The Conditional DETR transformer (Meng et al., ICCV 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..layers.mlp import MLP
from ..layers.position_embedding import sine_embedding
from ..layers.projected_attention import ProjectedAttention
from .transformer import (
    Encoded,
    Encoder,
    FeatureMaps,
    FeedForward,
    TransformerOutput,
    encode_single_level,
    init_xavier,
)

__all__ = ["ConditionalTransformer"]


class ConditionalDecoderLayer(FeedForward):
    """Decoder layer whose cross-attention keeps content and position apart (section 3.3, figure 3).

    Args:
        first: the first layer alone adds the positional query to its content query, as DETR does.
    """

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.sa_qcontent_proj = nn.Linear(dim, dim)
        self.sa_qpos_proj = nn.Linear(dim, dim)
        self.sa_kcontent_proj = nn.Linear(dim, dim)
        self.sa_kpos_proj = nn.Linear(dim, dim)
        self.sa_v_proj = nn.Linear(dim, dim)
        self.ca_qcontent_proj = nn.Linear(dim, dim)
        self.ca_kcontent_proj = nn.Linear(dim, dim)
        self.ca_kpos_proj = nn.Linear(dim, dim)
        self.ca_v_proj = nn.Linear(dim, dim)
        self.ca_qpos_sine_proj = nn.Linear(dim, dim)
        self.ca_qpos_proj = nn.Linear(dim, dim) if first else None
        self.self_attn = ProjectedAttention(dim, num_heads, dropout)
        self.cross_attn = ProjectedAttention(dim, num_heads, dropout)
        self.add_feed_forward(dim, ffn_dim, dropout, num_norms=3)

    def forward(
        self, x: Tensor, query_pos: Tensor, query_sine: Tensor, encoded: Encoded, padding: Tensor | None
    ) -> Tensor:
        mixed = self.self_attn(
            self.sa_qcontent_proj(x) + self.sa_qpos_proj(query_pos),
            self.sa_kcontent_proj(x) + self.sa_kpos_proj(query_pos),
            self.sa_v_proj(x),
        )
        x = self.norm1(x + self.dropout(mixed))

        q, k = self.ca_qcontent_proj(x), self.ca_kcontent_proj(encoded.memory)
        k_pos = self.ca_kpos_proj(encoded.positions)
        if self.ca_qpos_proj is not None:
            q, k = q + self.ca_qpos_proj(query_pos), k + k_pos
        mixed = self.cross_attn(
            self._join_heads(q, self.ca_qpos_sine_proj(query_sine)),
            self._join_heads(k, k_pos),
            self.ca_v_proj(encoded.memory),
            padding,
        )
        x = self.norm2(x + self.dropout(mixed))
        return self.norm3(x + self.feed_forward(x))

    def _join_heads(self, content: Tensor, position: Tensor) -> Tensor:
        """(B, N, C) twice to (B, N, 2C), each head holding its content, then its position."""
        parts = [t.unflatten(-1, (self.num_heads, -1)) for t in (content, position)]
        return torch.cat(parts, dim=-1).flatten(-2)


class ConditionalDecoder(nn.Module):
    """Decoder with one reference point a query, fixed through the layers."""

    def __init__(self, num_layers: int, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            ConditionalDecoderLayer(dim, num_heads, ffn_dim, dropout, first=index == 0)
            for index in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.query_scale = MLP(dim, dim, dim, 2)
        self.ref_point_head = MLP(dim, dim, 2, 2)

    def forward(self, query_pos: Tensor, encoded: Encoded) -> tuple[Tensor, Tensor]:
        padding = encoded.key_padding
        reference = self.ref_point_head(query_pos).float().sigmoid()
        sine = sine_embedding(reference, query_pos.shape[-1] // 2)
        x, outputs = torch.zeros_like(query_pos), []
        for index, layer in enumerate(self.layers):
            query_sine = sine if index == 0 else sine * self.query_scale(x)
            x = layer(x, query_pos, query_sine.to(query_pos.dtype), encoded, padding)
            outputs.append(self.norm(x))
        return torch.stack(outputs), reference


class ConditionalTransformer(nn.Module):
    """Conditional DETR's transformer; the arguments are those of ``VanillaTransformer``."""

    has_reference = True

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        encoder_layers: int,
        decoder_layers: int,
        ffn_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_decoder_layers = decoder_layers
        self.encoder = Encoder(encoder_layers, dim, num_heads, ffn_dim, dropout)
        self.decoder = ConditionalDecoder(decoder_layers, dim, num_heads, ffn_dim, dropout)
        init_xavier(self)

    def encode(self, features: FeatureMaps) -> Encoded:
        """Encode one level of features."""
        return encode_single_level(self.encoder, features)

    def decode(
        self, queries: Tensor, encoded: Encoded, box_heads: nn.ModuleList | None = None
    ) -> TransformerOutput:
        """Decode positional queries (B, Q, C) whose content starts at zero; ``box_heads`` has no use here."""
        hidden, reference = self.decoder(queries, encoded)
        return TransformerOutput(hidden, [reference] * len(hidden))
