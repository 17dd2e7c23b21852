"""Attention blocks that the detection transformers of this package share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["MLP", "DeformableAttention", "ProjectedAttention", "sample_levels"]


class MLP(nn.Module):
    """Linear layers with a ReLU between them.

    Args:
        in_dim: channels in.
        hidden_dim: channels of the hidden layers.
        out_dim: channels out.
        num_layers: linear layers.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> None:
        super().__init__()
        dims = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(dims))

    @property
    def last(self) -> nn.Linear:
        """The output layer."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)


class ProjectedAttention(nn.Module):
    """Multi-head attention on inputs that are projected already (Conditional DETR, section 3.3).

    Args:
        value_dim: channels of the values and of the output.
        num_heads: attention heads.
        dropout: dropout on the attention weights.
    """

    def __init__(self, value_dim: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.out_proj = nn.Linear(value_dim, value_dim)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, heads * D), channels grouped by head.
            key: (B, S, heads * D).
            value: (B, S, value_dim).
            padding: (B, S) bool, true where a key must be ignored.

        Returns:
            (B, Q, value_dim).
        """
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in (query, key, value))
        allowed = None if padding is None else ~padding[:, None, None, :]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2))


def sample_levels(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Weighted bilinear samples from several feature maps (Deformable DETR, equation 3).

    Args:
        value: (B, S, heads, D), the maps flattened and joined.
        shapes: (height, width) of each level; S is the sum of their products.
        locations: (B, Q, heads, levels, points, 2) as x, y in [0, 1]; outside counts as zero.
        weights: (B, Q, heads, levels, points).

    Returns:
        (B, Q, heads * D).
    """
    batch, _, heads, dim = value.shape
    queries = locations.shape[1]
    grid = (2 * locations - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # levels, B * heads, Q, points, 2
    maps = value.permute(0, 2, 3, 1).flatten(0, 1).split([h * w for h, w in shapes], dim=-1)
    weight = weights.permute(3, 0, 2, 1, 4).flatten(1, 2)  # levels, B * heads, Q, points
    total = value.new_zeros(batch * heads, dim, queries)
    for level, (h, w) in enumerate(shapes):
        samples = F.grid_sample(
            maps[level].unflatten(-1, (h, w)),
            grid[level].to(value.dtype),
            mode="bilinear",
            padding_mode="zeros",
            align_corners=False,
        )
        total = total + torch.einsum("ndqp,nqp->ndq", samples, weight[level].to(samples.dtype))
    return total.view(batch, heads, dim, queries).permute(0, 3, 1, 2).flatten(2)


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention (Deformable DETR, section 4.1).

    Args:
        dim: channels.
        num_levels: feature maps.
        num_heads: attention heads.
        num_points: sampling points a head and level.
    """

    def __init__(self, dim: int, num_levels: int, num_heads: int, num_points: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"DeformableAttention: dim {dim} is not a multiple of num_heads {num_heads}")
        self.shape = (num_heads, num_levels, num_points)
        self.sampling_offsets = nn.Linear(dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Offsets start on a ring of directions, one a head, further out with each point."""
        heads, levels, points = self.shape
        angle = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
        ring = torch.stack((angle.cos(), angle.sin()), dim=-1)
        ring = ring / ring.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, points + 1, dtype=torch.float32)
        bias = ring[:, None, None, :] * steps[None, None, :, None]
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.expand(heads, levels, points, 2).flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        source: Tensor,
        shapes: Sequence[tuple[int, int]],
        padding: Tensor | None = None,
    ) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, dim).
            reference: (B, Q, levels, 2) points or (B, Q, levels, 4) boxes (centre format), as
                fractions of each padded map.
            source: (B, S, dim), the maps flattened and joined.
            shapes: (height, width) of each level.
            padding: (B, S) bool, true on padding, whose values count as zero.

        Returns:
            (B, Q, dim).
        """
        heads, levels, points = self.shape
        value = self.value_proj(source)
        if padding is not None:
            value = value.masked_fill(padding[..., None], 0.0)
        offsets = self.sampling_offsets(query).unflatten(-1, (heads, levels, points, 2)).float()
        weights = self.attention_weights(query).unflatten(-1, (heads, levels * points)).softmax(-1)
        centre = reference[:, :, None, :, None, :2]
        if reference.shape[-1] == 4:
            scale = reference[:, :, None, :, None, 2:] * (0.5 / points)
        else:
            size = torch.tensor([(w, h) for h, w in shapes], dtype=torch.float32, device=query.device)
            scale = 1 / size[None, None, None, :, None, :]
        sampled = sample_levels(
            value.unflatten(-1, (heads, -1)),
            shapes,
            centre + offsets * scale,
            weights.unflatten(-1, (levels, points)),
        )
        return self.output_proj(sampled)
