"""Multi-scale deformable attention (Deformable DETR, eq. 3).

The sampling step has three implementations with the same result and different speed:

``bag``
    the four corners of every sampling point are rows of one table, summed with
    ``embedding_bag``; the fastest on a CPU.
``grid``
    ``grid_sample`` level by level; runs on every device.
``triton``
    a fused kernel for CUDA (see ``deformable_attention_triton.py``).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .levels import Memory

Shapes = Sequence[tuple[int, int]]


def deformable_sampling(
    value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor, method: str = "auto"
) -> Tensor:
    """Return weighted sums of bilinear samples of several feature maps, per head.

    Location (0, 0) is the top left corner of a map, (1, 1) its bottom right corner. Outside the value is 0.

    Args:
        value: ``(B, S, H, D)``, the maps, flattened row by row and joined; S = sum of h * w.
        shapes: (h, w) of every map.
        locations: ``(B, Q, H, L, P, 2)`` as (x, y), normalized.
        weights: ``(B, Q, H, L, P)``.
        method: "auto" (by device), "bag", "grid" or "triton".

    Returns:
        ``(B, Q, H * D)`` in the dtype of ``value``.

    Raises:
        ValueError: ``shapes`` and ``value`` have different numbers of cells.
    """
    if torch.compiler.is_exporting():
        return samples_of_levels(value, torch.tensor(shapes), locations, weights, len(shapes))
    tokens = sum(h * w for h, w in shapes)
    if value.shape[1] != tokens:
        raise ValueError(f"value: expected {tokens} tokens for shapes {list(shapes)}, found {value.shape[1]}")
    if method == "auto":
        method = _best_method(value, locations)
    if method == "triton":
        from .deformable_attention_triton import sample_triton

        return sample_triton(value, shapes, locations, weights)
    dtype = torch.promote_types(value.dtype, torch.float32)
    out = _METHODS[method](value.to(dtype), shapes, locations.to(dtype), weights.to(dtype))
    return out.to(value.dtype)


def _best_method(value: Tensor, locations: Tensor) -> str:
    if value.is_cuda:
        head_dim, levels = value.shape[3], locations.shape[3]
        fits = head_dim & (head_dim - 1) == 0 and 8 <= head_dim <= 256 and levels <= 8
        return "triton" if fits and importlib.util.find_spec("triton") is not None else "grid"
    return "bag" if value.device.type == "cpu" else "grid"


def _sample_grid(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    b, _, heads, dim = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    maps = value.permute(0, 2, 3, 1).flatten(0, 1)  # (B * H, D, S)
    grid = (2 * locations - 1).permute(0, 2, 3, 1, 4, 5).flatten(0, 1)  # (B * H, L, Q, P, 2)
    share = weights.permute(0, 2, 3, 1, 4).flatten(0, 1)  # (B * H, L, Q, P)
    out = value.new_zeros(b * heads, dim, queries)
    start = 0
    for level, (h, w) in enumerate(shapes):
        level_map = maps[:, :, start : start + h * w].reshape(b * heads, dim, h, w)
        points_of_level = grid[:, level].reshape(b * heads, 1, queries * points, 2)
        sampled = F.grid_sample(level_map, points_of_level, padding_mode="zeros", align_corners=False)
        sampled = sampled.view(b * heads, dim, queries, points)
        out = out + (sampled * share[:, None, level]).sum(-1)
        start += h * w
    return out.view(b, heads * dim, queries).transpose(1, 2)


def _sample_bag(value: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    b, tokens, heads, dim = value.shape
    _, queries, _, levels, points, _ = locations.shape
    corners = levels * points * 4
    index_type = torch.int32 if b * tokens * heads < 2**31 else torch.int64
    size = torch.tensor([[w, h] for h, w in shapes], dtype=locations.dtype, device=value.device)
    starts = torch.tensor([0] + [h * w for h, w in shapes[:-1]], dtype=index_type, device=value.device)
    starts = starts.cumsum(0, dtype=index_type)

    xy = locations * size[:, None] - 0.5
    low = xy.detach().floor()
    fraction = xy - low
    cells, shares = [], []
    for axis in (0, 1):
        side = size[:, axis, None]
        first, second = low[..., axis], low[..., axis] + 1
        part = fraction[..., axis]
        inside = torch.stack([(k >= 0) & (k < side) for k in (first, second)], -1)
        shares.append(torch.where(inside, torch.stack([1 - part, part], -1), 0.0))
        limited = torch.stack([first, second], -1).clamp(min=0)
        cells.append(torch.minimum(limited, side[..., None] - 1).to(index_type))
    # Row of the table = ((image * S + start + line * w + column) * H) + head.
    images = torch.arange(b, dtype=index_type, device=value.device).view(-1, 1, 1, 1, 1, 1)
    head = torch.arange(heads, dtype=index_type, device=value.device).view(-1, 1, 1, 1)
    origin = (images * tokens + starts[:, None, None]) * heads + head  # (B, 1, H, L, 1, 1)
    lines = cells[1] * (size[:, 0].to(index_type) * heads)[:, None, None] + origin
    index = lines.unsqueeze(-1) + (cells[0] * heads).unsqueeze(-2)  # (B, Q, H, L, P, 2, 2)
    share = (shares[1] * weights.unsqueeze(-1)).unsqueeze(-1) * shares[0].unsqueeze(-2)
    table, share = value.reshape(-1, dim), share.reshape(-1, corners)
    out = F.embedding_bag(index.view(-1, corners), table, per_sample_weights=share, mode="sum")
    return out.view(b, queries, heads * dim)


@torch.library.custom_op("sor_ppa::samples_of_levels", mutates_args=())
def samples_of_levels(
    value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor, levels: int
) -> Tensor:
    """Return :func:`deformable_sampling` of ``shapes`` (L, 2) as one operator, with which tracing is fast."""
    del levels  # for exporters
    return _sample_grid(value, shapes.tolist(), locations, weights)


@samples_of_levels.register_fake
def _(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor, levels: int) -> Tensor:
    b, _, heads, dim = value.shape
    return value.new_empty(b, locations.shape[1], heads * dim)


_METHODS = {"grid": _sample_grid, "bag": _sample_bag}


class MultiScaleDeformableAttention(nn.Module):
    """Each query reads a few points of every feature map around its reference (Deformable DETR, eq. 3).

    Args:
        embed_dim: width C of queries and values.
        num_levels: feature maps L.
        num_heads: heads H; C must be divisible by it.
        num_points: sampling points P per head and level.
    """

    def __init__(
        self, embed_dim: int = 256, num_levels: int = 4, num_heads: int = 8, num_points: int = 4
    ) -> None:
        super().__init__()
        assert embed_dim % num_heads == 0, "width must be a multiple of the heads"
        self.embed_dim = embed_dim
        self.num_levels = num_levels
        self.num_heads = num_heads
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(embed_dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(embed_dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set zero weights; point k of head h starts k + 1 cells away in direction 2 pi h / H."""
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1)
        offsets = direction[:, None, None] * distance[None, None, :, None]
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, reference: Tensor, value: Tensor, shapes: Shapes, padding: Tensor | None = None
    ) -> Tensor:
        """Return ``(B, Q, C)``.

        Args:
            query: ``(B, Q, C)``, position already added.
            reference: ``(B, Q, L, 2)`` points (x, y) or ``(B, Q, L, 4)`` boxes (cx, cy, w, h), normalized
                to the padded maps. The unit of offsets is a cell for points, half a side / P for boxes.
            value: ``(B, S, C)`` flattened feature maps.
            shapes: (h, w) of every map.
            padding: ``(B, S)`` bool, True = padded; such tokens read as 0.
        """
        value = self.value_proj(value)
        if padding is not None:
            value = value.masked_fill(padding.unsqueeze(-1), 0.0)
        value = value.unflatten(-1, (self.num_heads, -1))
        split = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*split, 2))
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        weights = weights.unflatten(-1, split[1:])
        anchor = reference[:, :, None, :, None]
        if reference.shape[-1] == 2:
            cells = torch.tensor([[w, h] for h, w in shapes], dtype=offsets.dtype, device=offsets.device)
            locations = anchor + offsets / cells[:, None]
        else:
            locations = anchor[..., :2] + offsets / self.num_points * anchor[..., 2:] * 0.5
        return self.output_proj(deformable_sampling(value, shapes, locations, weights))

    def attend(self, query: Tensor, memory: Memory, reference: Tensor) -> Tensor:
        """Attend to a :class:`Memory`; query and reference as in :meth:`forward`."""
        return self(query, reference, memory.tokens, memory.levels.shapes, memory.levels.padding)
