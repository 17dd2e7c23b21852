"""Sine position encodings of feature maps and of points (DETR, supplement A.4)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["sine_embedding", "sine_position_map"]


def _waves(angles: Tensor, channels: int, temperature: float) -> Tensor:
    """(...) angles to (..., channels): sine on even, cosine on odd channels."""
    power = torch.arange(channels, dtype=torch.float32, device=angles.device) // 2 * 2 / channels
    phase = angles.unsqueeze(-1) / temperature**power
    return torch.stack((phase[..., 0::2].sin(), phase[..., 1::2].cos()), dim=-1).flatten(-2)


def sine_embedding(points: Tensor, channels: int = 128, temperature: float = 10000.0) -> Tensor:
    """Embed normalised points.

    Args:
        points: (..., 2) as x, y in [0, 1].
        channels: channels an axis.
        temperature: longest wavelength over 2 pi.

    Returns:
        (..., 2 * channels) float32, the y half first.
    """
    angles = points.float() * (2 * math.pi)
    return torch.cat([_waves(angles[..., axis], channels, temperature) for axis in (1, 0)], dim=-1)


def sine_position_map(padding: Tensor, channels: int = 128, temperature: float = 10000.0) -> Tensor:
    """Embed the cells of a feature map by their position in the valid part of the image.

    Args:
        padding: (B, H, W) bool, true on padding.
        channels: channels an axis.
        temperature: longest wavelength over 2 pi.

    Returns:
        (B, 2 * channels, H, W) float32, the y half first.
    """
    valid = (~padding).float()
    y, x = valid.cumsum(1), valid.cumsum(2)
    y = y / (y[:, -1:, :] + 1e-6) * (2 * math.pi)
    x = x / (x[:, :, -1:] + 1e-6) * (2 * math.pi)
    maps = [_waves(axis, channels, temperature) for axis in (y, x)]
    return torch.cat(maps, dim=-1).permute(0, 3, 1, 2)
