"""Post-norm transformer layers with injected attention modules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from .deformable_attention import MultiScaleDeformableAttention
from .levels import Memory


def init_xavier(module: nn.Module) -> None:
    """Draw every matrix from Xavier's uniform distribution; reset deformable attention as published."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
    for child in module.modules():
        if isinstance(child, MultiScaleDeformableAttention):
            child.reset_parameters()


class ResidualLayer(nn.Module):
    """Norms and feed-forward network of a post-norm layer (Vaswani et al., 2017, section 3).

    Args:
        dim: width C.
        ffn_dim: width of the feed-forward network.
        dropout: dropout of every residual branch.
        num_norms: residual branches; the last one is the feed-forward network.
    """

    def __init__(self, dim: int, ffn_dim: int, dropout: float, num_norms: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.dropout = nn.Dropout(dropout)
        for index in range(1, num_norms + 1):
            setattr(self, f"norm{index}", nn.LayerNorm(dim))
        self.last_norm = f"norm{num_norms}"

    def add(self, norm: str, x: Tensor, update: Tensor) -> Tensor:
        """Return the norm of that name of ``x + dropout(update)``."""
        return getattr(self, norm)(x + self.dropout(update))

    def feed_forward(self, x: Tensor) -> Tensor:
        """Apply the feed-forward branch to ``(..., C)``."""
        hidden = self.dropout(self.linear1(x).relu())
        return self.add(self.last_norm, x, self.linear2(hidden))


class EncoderLayer(ResidualLayer):
    """Attention with ``attend(query, memory, reference)``, then a feed-forward network."""

    def __init__(self, attention: nn.Module, dim: int, ffn_dim: int, dropout: float = 0.0) -> None:
        super().__init__(dim, ffn_dim, dropout, num_norms=2)
        self.self_attn: Any = attention

    def forward(
        self, tokens: Tensor, positions: Tensor, memory: Memory, reference: Tensor | None = None
    ) -> Tensor:
        """Refine tokens ``(B, N, C)`` with positions of the same shape.

        Args:
            tokens: to refine.
            positions: of the tokens.
            memory: what they read, usually themselves.
            reference: ``(B, N, L, 2)`` of deformable attention.
        """
        mixed = self.self_attn.attend(tokens + positions, memory, reference)
        return self.feed_forward(self.add("norm1", tokens, mixed))


class Encoder(nn.Module):
    """Encoder layers in which all tokens read each other."""

    def __init__(self, layers: Iterable[EncoderLayer]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, memory: Memory, reference: Tensor | None = None) -> Memory:
        """Return the memory with refined tokens; arguments as in :class:`EncoderLayer`."""
        for layer in self.layers:
            memory = replace(memory, tokens=layer(memory.tokens, memory.positions, memory, reference))
        return memory


class DecoderLayer(ResidualLayer):
    """Self-attention among queries, attention into the memory, feed-forward network (DETR, figure 10).

    ``self_attention`` is batch first; ``cross_attention`` has ``attend(query, memory, reference)``.
    """

    #: Parameter names of the published code (here Deformable DETR's): cross-attention, norm behind the
    #: self-attention, norm behind the cross-attention.
    names: ClassVar[tuple[str, str, str]] = ("cross_attn", "norm2", "norm1")

    def __init__(
        self,
        self_attention: nn.MultiheadAttention,
        cross_attention: nn.Module,
        dim: int,
        ffn_dim: int,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, ffn_dim, dropout, num_norms=3)
        self.self_attn = self_attention
        setattr(self, self.names[0], cross_attention)

    def forward(
        self,
        query: Tensor,
        positions: Tensor,
        memory: Memory,
        reference: Tensor | None = None,
        blocked: Tensor | None = None,
    ) -> Tensor:
        """Refine queries ``(B, Q, C)`` with positions of the same shape.

        Args:
            query: to refine.
            positions: of the queries.
            memory: what the queries read.
            reference: of deformable attention: ``(B, Q, L, 2)`` points or ``(B, Q, L, 4)`` boxes, normalized
                to the padded maps.
            blocked: ``(Q, Q)`` bool, True = row must not attend to column.
        """
        cross_attn, self_norm, cross_norm = self.names
        placed = query + positions
        mixed = self.self_attn(placed, placed, query, attn_mask=blocked, need_weights=False)[0]
        query = self.add(self_norm, query, mixed)
        mixed = getattr(self, cross_attn).attend(query + positions, memory, reference)
        return self.feed_forward(self.add(cross_norm, query, mixed))
