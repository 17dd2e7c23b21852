"""Saliency pyramids: reduce, expand, reconstruct, and the transition bands of pyramid blending."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import resize

__all__ = ["deconstruct", "expand", "gaussian_kernel", "reconstruct", "reduce", "transition_mask"]

KERNEL_SIZE = 7
SIGMA = 1.0


def _taps() -> tuple[float, ...]:
    offsets = range(-(KERNEL_SIZE // 2), KERNEL_SIZE // 2 + 1)
    taps = [math.exp(-(offset**2) / (2 * SIGMA**2)) for offset in offsets]
    return tuple(tap / sum(taps) for tap in taps)


TAPS = _taps()


def gaussian_kernel() -> Tensor:
    """The (7, 7) smoothing kernel, float64: outer product of the 7-tap Gaussian of sigma 1."""
    taps = torch.tensor(TAPS, dtype=torch.float64)
    return torch.outer(taps, taps)


def _blur(x: Tensor, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Separable Gaussian with reflected borders, in full precision; ``gain`` applies to each axis."""
    channels, pad = x.shape[1], KERNEL_SIZE // 2
    x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    taps = x.new_tensor([gain * tap for tap in TAPS]).expand(channels, 1, -1)
    x = F.pad(x, (pad,) * 4, mode="reflect")
    with torch.autocast(x.device.type, enabled=False):
        x = F.conv2d(x, taps[:, :, :, None], stride=(stride, 1), groups=channels)
        return F.conv2d(x, taps[:, :, None, :], stride=(1, stride), groups=channels)


def reduce(x: Tensor) -> Tensor:
    """Blur and keep the even rows and columns, (B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2))."""
    return _blur(x, stride=2)


def expand(x: Tensor) -> Tensor:
    """Insert zeros and blur with four times the kernel, (B, C, H, W) -> (B, C, 2H, 2W)."""
    zeros = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    zeros[:, :, ::2, ::2] = x
    return _blur(zeros, gain=2.0)


def deconstruct(x: Tensor) -> tuple[Tensor, Tensor]:
    """One level of a Laplacian pyramid.

    Args:
        x: (B, C, H, W).

    Returns:
        The reduced map (B, C, ceil(H/2), ceil(W/2)) and the Laplacian (B, C, H, W).
    """
    low = reduce(x)
    up = expand(low)
    if up.shape != x.shape:
        up = F.interpolate(up, x.shape[-2:])
    return low, x - up


def reconstruct(low: Tensor, laplacian: Tensor) -> Tensor:
    """The finer level R(d, p) = expand(d) + p (InSPyReNet, eq. 1).

    Args:
        low: (B, C, H, W) coarse map.
        laplacian: (B, C, h, w); resized (bilinear, aligned corners) where it is not twice the size.

    Returns:
        (B, C, 2H, 2W).
    """
    up = expand(low)
    return up + resize(laplacian, (up.shape[-2], up.shape[-1]), align_corners=True)


@lru_cache(maxsize=8)
def _ellipse_rows(size: int) -> tuple[int, ...]:
    """Half width of each row of OpenCV's elliptic structuring element of an odd side."""
    radius = size // 2
    halves = []
    for dy in range(-radius, radius + 1):
        halves.append(round(radius * ((radius**2 - dy**2) / radius**2) ** 0.5))
    return tuple(halves)


def _dilate(x: Tensor, size: int) -> Tensor:
    """Grey dilation with the elliptic element; pixels beyond the border do not count."""
    radius = size // 2
    height, width = x.shape[-2:]
    padded = F.pad(x, (radius,) * 4, value=float("-inf"))
    halves = _ellipse_rows(size)
    row = padded[..., radius : radius + width]
    out: Tensor | None = None
    for half in range(radius + 1):
        if half > 0:
            left = padded[..., radius - half : radius - half + width]
            right = padded[..., radius + half : radius + half + width]
            row = torch.maximum(row, torch.maximum(left, right))
        for offset, reach in enumerate(halves):
            if reach == half:
                shifted = row[..., offset : offset + height, :]
                out = shifted if out is None else torch.maximum(out, shifted)
    assert out is not None
    return out


def transition_mask(logits: Tensor, size: int) -> Tensor:
    """Where saliency changes: dilation minus erosion of its probability exceeds one half.

    Args:
        logits: (B, 1, H, W) saliency logits.
        size: odd side of the elliptic structuring element in pixels.

    Returns:
        (B, 1, H, W) of ``logits``' dtype, 0 or 1 (InSPyReNet, section 3.4).
    """
    probability = logits.sigmoid()
    band = _dilate(probability, size) + _dilate(-probability, size)
    return (band > 0.5).to(logits.dtype)
