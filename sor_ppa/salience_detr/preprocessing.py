"""Resizing of images as in the published code."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def resized_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """Return the size whose short side is ``short``, or whose long side is ``longest`` if that is smaller.

    The scale is a float32 reciprocal times a length, and sizes are truncated, as published (detectron2
    rounds): 375 x 500 becomes 799 x 1066 for (800, 1333).

    Returns:
        (height, width) in pixels, at least 1.
    """
    sides = torch.tensor([min(height, width), max(height, width)], dtype=torch.float32)
    scale = (sides.reciprocal() * torch.tensor([short, longest])).min()
    new_height, new_width = (torch.tensor([height, width]) * scale).long().clamp(min=1).tolist()
    return new_height, new_width


def resize_as_published(image: Tensor, short: int, longest: int) -> Tensor:
    """Resize a uint8 image ``(3, h, w)`` bilinearly with antialiasing to :func:`resized_size`.

    As published, the result is computed in float32 and rounded to uint8.
    """
    size = resized_size(image.shape[-2], image.shape[-1], short, longest)
    resized = F.interpolate(image[None].float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)
