"""The decoder of Conditional DETR (Meng et al., ICCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers.detr.attention import ProjectedAttention
from ..layers.detr.layers import ResidualLayer
from ..layers.detr.levels import Memory
from ..layers.detr.mlp import MLP
from ..layers.detr.positions import sine_embedding
from .transformer import DecoderOutput

__all__ = ["ConditionalDecoder", "ConditionalDecoderLayer"]


class ConditionalDecoderLayer(ResidualLayer):
    """Decoder layer whose cross-attention separates content and position (section 3.3, figure 3).

    Args:
        num_heads: attention heads.
        dim: channels.
        ffn_dim: width of the feed-forward network.
        dropout: dropout of attention and of every residual branch.
        first: add the positional query to the content query in the cross-attention (first layer only).
    """

    def __init__(self, num_heads: int, dim: int, ffn_dim: int, dropout: float, first: bool) -> None:
        super().__init__(dim, ffn_dim, dropout, num_norms=3)
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

    def forward(self, x: Tensor, query_pos: Tensor, query_sine: Tensor, memory: Memory) -> Tensor:
        """Refine queries ``(B, Q, C)``."""
        mixed = self.self_attn(
            self.sa_qcontent_proj(x) + self.sa_qpos_proj(query_pos),
            self.sa_kcontent_proj(x) + self.sa_kpos_proj(query_pos),
            self.sa_v_proj(x),
        )
        x = self.add("norm1", x, mixed)

        q, k = self.ca_qcontent_proj(x), self.ca_kcontent_proj(memory.tokens)
        k_pos = self.ca_kpos_proj(memory.positions)
        if self.ca_qpos_proj is not None:
            q, k = q + self.ca_qpos_proj(query_pos), k + k_pos
        mixed = self.cross_attn(
            self._join_heads(q, self.ca_qpos_sine_proj(query_sine)),
            self._join_heads(k, k_pos),
            self.ca_v_proj(memory.tokens),
            memory.levels.padding,
        )
        return self.feed_forward(self.add("norm2", x, mixed))

    def _join_heads(self, content: Tensor, position: Tensor) -> Tensor:
        """Join two ``(B, N, C)`` to ``(B, N, 2C)``: per head its content, then its position."""
        parts = [t.unflatten(-1, (self.num_heads, -1)) for t in (content, position)]
        return torch.cat(parts, dim=-1).flatten(-2)


class ConditionalDecoder(nn.Module):
    """Decoder with one reference point per query, the same for all layers.

    Args:
        layers: in order.
        dim: channels.
    """

    has_reference = True

    def __init__(self, layers: Sequence[ConditionalDecoderLayer], dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)
        self.query_scale = MLP(dim, dim, dim, 2)
        self.ref_point_head = MLP(dim, dim, 2, 2)

    def forward(self, queries: Tensor, memory: Memory) -> DecoderOutput:
        """Decode positional queries ``(B, Q, C)`` whose content starts at zero."""
        reference = self.ref_point_head(queries).float().sigmoid()
        sine = sine_embedding(reference, queries.shape[-1] // 2)
        x, outputs = torch.zeros_like(queries), []
        for index, layer in enumerate(self.layers):
            query_sine = sine if index == 0 else sine * self.query_scale(x)
            x = layer(x, queries, query_sine.to(queries.dtype), memory)
            outputs.append(self.norm(x))
        return DecoderOutput(torch.stack(outputs), [reference] * len(outputs))
