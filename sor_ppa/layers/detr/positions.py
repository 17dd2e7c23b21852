"""Sine and learned position embeddings of feature maps, points and boxes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def _sine_cosine(angle: Tensor, num_feats: int, temperature: float) -> Tensor:
    """Return alternating sine and cosine of ``angle / temperature ** (2 floor(i / 2) / num_feats)``."""
    index = torch.arange(num_feats, dtype=angle.dtype, device=angle.device)
    frequency = temperature ** (2 * torch.div(index, 2, rounding_mode="floor") / num_feats)
    scaled = angle.unsqueeze(-1) / frequency
    return torch.stack([scaled[..., 0::2].sin(), scaled[..., 1::2].cos()], dim=-1).flatten(-2)


def sine_embedding(positions: Tensor, num_feats: int = 128, temperature: float = 10000.0) -> Tensor:
    """Return the sine embedding of normalized points or boxes (DAB-DETR, section 4.2).

    Each value p becomes ``num_feats`` features: alternating sine and cosine of
    ``2 pi p / temperature ** (2 floor(i / 2) / num_feats)``. The features of y come before those of x,
    followed by w and h.

    Args:
        positions: ``(..., n)`` with n >= 2, values in [0, 1].
        num_feats: features per value, even.
        temperature: base of the frequencies.

    Returns:
        ``(..., n * num_feats)``.
    """
    features = _sine_cosine(positions * (2 * math.pi), num_feats, temperature)
    features = torch.cat([features[..., 1:2, :], features[..., 0:1, :], features[..., 2:, :]], dim=-2)
    return features.flatten(-2)


def sine_position_map(
    padding: Tensor,
    num_feats: int = 128,
    temperature: float = 10000.0,
    offset: float = -0.5,
    eps: float = 1e-6,
) -> Tensor:
    """Return the sine embedding of every cell of a padded feature map (DETR, section 3.2; offset as in DINO).

    The coordinate of unpadded cell k = 1 ... n of a row or column is ``(k + offset) / (n + eps)``; with
    offset -0.5 that is its center. The values of fully padded rows and columns have no meaning.

    Args:
        padding: ``(B, h, w)`` bool, True = padded.
        num_feats: features per axis, even.
        temperature: base of the frequencies.
        offset: shift of the count.
        eps: added to the number of cells.

    Returns:
        ``(B, 2 * num_feats, h, w)`` float32, y features first.
    """
    inside = ~padding
    maps = []
    for axis in (1, 2):
        count = inside.cumsum(axis, dtype=torch.float32)
        last = count.narrow(axis, count.shape[axis] - 1, 1)
        angle = (count + offset) / (last + eps) * (2 * math.pi)
        maps.append(_sine_cosine(angle, num_feats, temperature))
    return torch.cat(maps, dim=-1).permute(0, 3, 1, 2)


class LearnedPositionEmbedding(nn.Module):
    """One learned vector of length ``num_feats`` per column and one per row, concatenated.

    Rows and columns beyond ``num_embeddings`` share the last vector.
    """

    def __init__(self, num_embeddings: int = 50, num_feats: int = 128) -> None:
        super().__init__()
        self.row_embed = nn.Embedding(num_embeddings, num_feats)
        self.col_embed = nn.Embedding(num_embeddings, num_feats)
        nn.init.uniform_(self.row_embed.weight)
        nn.init.uniform_(self.col_embed.weight)

    def forward(self, height: int, width: int) -> Tensor:
        """Return ``(height * width, 2 * num_feats)`` for a map, row by row, column features first."""
        last = self.row_embed.num_embeddings - 1
        device = self.row_embed.weight.device
        columns = self.col_embed(torch.arange(width, device=device).clamp(max=last))
        rows = self.row_embed(torch.arange(height, device=device).clamp(max=last))
        grid = [columns.expand(height, -1, -1), rows[:, None].expand(-1, width, -1)]
        return torch.cat(grid, dim=-1).flatten(0, 1)
