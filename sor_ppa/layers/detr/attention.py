"""Attention over all tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from .levels import Memory


class GlobalAttention(nn.MultiheadAttention):
    """PyTorch's multi-head attention, batch first, over the tokens of a :class:`Memory`."""

    def __init__(self, dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(dim, num_heads, dropout, batch_first=True)

    def attend(self, query: Tensor, memory: Memory, reference: Tensor | None = None) -> Tensor:
        """Return ``(B, Q, C)``: what queries ``(B, Q, C)``, position already added, read in the memory.

        The memory's positions are added to the keys only. Padded tokens and ``reference`` are ignored.
        """
        key = memory.tokens if memory.positions is None else memory.tokens + memory.positions
        padding = memory.levels.padding
        return self(query, key, memory.tokens, key_padding_mask=padding, need_weights=False)[0]


class ProjectedAttention(nn.Module):
    """Multi-head attention without input projections (Conditional DETR, section 3.3)."""

    def __init__(self, value_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.out_proj = nn.Linear(value_dim, value_dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return ``(B, Q, value_dim)``.

        Args:
            query: ``(B, Q, heads * D)``, channels grouped by head.
            key: ``(B, S, heads * D)``.
            value: ``(B, S, value_dim)``.
            padding: ``(B, S)`` bool, True = ignored.
        """
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (query, key, value))
        allowed = None if padding is None else ~padding[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))
