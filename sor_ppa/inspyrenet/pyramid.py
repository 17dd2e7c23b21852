"""Saliency pyramids: reduce, expand, reconstruct, and the transition bands of pyramid blending."""

from __future__ import annotations

from functools import reduce as fold

import cv2
import torch
import torch.nn.functional as F
from torch import Tensor

from .layers import resize

__all__ = ["expand", "reconstruct", "reduce", "transition_mask"]

# The smoothing kernel is the outer product of these weights with themselves.
TAPS = cv2.getGaussianKernel(7, 1.0)[:, 0].tolist()


def _blur(x: Tensor, gain: float = 1.0, stride: int = 1) -> Tensor:
    """Apply a separable Gaussian with reflected borders, in full precision; ``gain`` is per axis."""
    channels, pad = x.shape[1], len(TAPS) // 2
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
    wide = torch.stack([x, torch.zeros_like(x)], dim=4).flatten(3)
    spread = torch.stack([wide, torch.zeros_like(wide)], dim=3).flatten(2, 3)
    return _blur(spread, gain=2.0)


def reconstruct(low: Tensor, laplacian: Tensor) -> Tensor:
    """Return the finer level R(d, p) = expand(d) + p (InSPyReNet, eq. 1).

    Args:
        low: (B, C, H, W) coarse map.
        laplacian: (B, C, h, w); resized (bilinear, aligned corners) if it is not (2H, 2W).

    Returns:
        (B, C, 2H, 2W).
    """
    up = expand(low)
    return up + resize(laplacian, (up.shape[-2], up.shape[-1]), align_corners=True)


def _dilate(x: Tensor, size: int) -> Tensor:
    """Apply a gray dilation with OpenCV's elliptic structuring element, ignoring pixels beyond the border."""
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    widths = [int(row.sum()) for row in element]
    pooled = {width: F.max_pool2d(x, (1, width), 1, (0, width // 2)) for width in set(widths)}
    radius, height = size // 2, x.shape[-2]
    padded = {width: F.pad(p, (0, 0, radius, radius), value=float("-inf")) for width, p in pooled.items()}
    shifted = (padded[width][..., top : top + height, :] for top, width in enumerate(widths))
    return fold(torch.maximum, shifted)


def transition_mask(logits: Tensor, size: int) -> Tensor:
    """Return where saliency changes: dilation minus erosion of its probability exceeds one half.

    Args:
        logits: (B, 1, H, W) saliency logits.
        size: odd side of the elliptic structuring element in pixels.

    Returns:
        (B, 1, H, W) of ``logits``' dtype, 0 or 1 (InSPyReNet, section 3.4).
    """
    probability = logits.sigmoid()
    band = _dilate(probability, size) + _dilate(-probability, size)
    return (band > 0.5).to(logits.dtype)
