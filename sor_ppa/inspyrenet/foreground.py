"""Edge colors of a cut-out without the old background."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["estimate_foreground"]

REGULARIZATION = 1e-5
SMALL_SIDE = 32
SMALL_SWEEPS = 10
BIG_SWEEPS = 2


def estimate_foreground(image: Tensor, alpha: Tensor) -> Tensor:
    """Estimate the colors F of image = alpha F + (1 - alpha) B, with F and B as smooth as alpha allows.

    Multi-level foreground estimation: Germer, Uelwer, Conrad, Harmeling, "Fast Multi-Level Foreground
    Estimation" (ICPR 2020), eq. 2 to 6, with red-black sweeps (half of the pixels at a time).

    Args:
        image: (3, H, W) in [0, 1].
        alpha: (H, W) in [0, 1].

    Returns:
        (3, H, W) in [0, 1].
    """
    height, width = alpha.shape
    inside, outside = alpha > 0.9, alpha < 0.1
    means = [(image * side).sum((1, 2)) / (side.sum() + 1e-5) for side in (inside, outside)]
    # Foreground and background are solved together: (2, 3, h, w).
    layers = torch.stack(means)[:, :, None, None].clamp(0, 1)
    levels = max(math.ceil(math.log2(max(height, width, 2))), 1)
    for level in range(levels + 1):
        size = (round(height ** (level / levels)), round(width ** (level / levels)))
        layers, small_image, small_alpha = (
            F.interpolate(x, size, mode="nearest") for x in (layers, image[None], alpha[None, None])
        )
        sweeps = SMALL_SWEEPS if max(size) <= SMALL_SIDE else BIG_SWEEPS
        layers = _sweep(layers, small_image, small_alpha[0, 0], sweeps)
    return layers[0]


def _neighbors(x: Tensor) -> list[Tensor]:
    """Return the four neighbors of each pixel of (B, C, H, W), borders repeated."""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    return [x[..., 1:-1, :-2], x[..., 1:-1, 2:], x[..., :-2, 1:-1], x[..., 2:, 1:-1]]


def _sweep(layers: Tensor, image: Tensor, alpha: Tensor, sweeps: int) -> Tensor:
    """Solve the 2x2 system of each pixel with its neighbors fixed, ``sweeps`` times."""
    weights = [REGULARIZATION + (alpha - other[0, 0]).abs() for other in _neighbors(alpha[None, None])]
    total = weights[0] + weights[1] + weights[2] + weights[3]
    shares = torch.stack([alpha, 1 - alpha])  # (2, H, W)
    diagonal = shares.square() + total
    cross = shares[0] * shares[1]
    determinant = diagonal[0] * diagonal[1] - cross.square()
    data = shares[:, None] * image  # (2, 3, H, W)
    rows = torch.arange(alpha.shape[0], device=alpha.device)[:, None]
    columns = torch.arange(alpha.shape[1], device=alpha.device)
    odd = ((rows + columns) % 2).bool()
    for _ in range(sweeps):
        for parity in (odd, ~odd):
            right = data.clone()
            for weight, other in zip(weights, _neighbors(layers), strict=True):
                right.addcmul_(weight, other)
            solved = (diagonal.flip(0)[:, None] * right - cross * right.flip(0)) / determinant
            layers = torch.where(parity, solved.clamp(0, 1), layers)
    return layers
