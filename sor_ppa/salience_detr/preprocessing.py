"""Images in: resizing as published, normalisation, padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["pad_batch", "resize_image", "resized_size"]


def resized_size(height: int, width: int, short: int, longest: int) -> tuple[int, int]:
    """The size with the short side at ``short``, or the long side at ``longest`` where that is smaller.

    The scale is the product of a float32 reciprocal, and sizes are truncated, as published (detectron2
    rounds): 375 x 500 becomes 799 x 1066.

    Returns:
        (height, width) in pixels, at least 1.
    """
    sides = torch.tensor([min(height, width), max(height, width)], dtype=torch.float32)
    scale = (sides.reciprocal() * torch.tensor([short, longest])).min()
    new_height, new_width = (torch.tensor([height, width]) * scale).long().clamp(min=1).tolist()
    return new_height, new_width


def resize_image(image: Tensor, short: int, longest: int) -> Tensor:
    """Resize a uint8 image ``(3, h, w)`` bilinearly with antialias to :func:`resized_size`.

    Interpolation runs in float32 and is rounded to uint8, as published.
    """
    size = resized_size(image.shape[-2], image.shape[-1], short, longest)
    resized = F.interpolate(image[None].float(), size, mode="bilinear", align_corners=False, antialias=True)
    return resized[0].round().clamp(0, 255).to(torch.uint8)


def pad_batch(images: Sequence[Tensor], divisor: int) -> Tensor:
    """Images ``(3, h, w)`` as one tensor ``(B, 3, H, W)``, zeros at the right and the bottom.

    Args:
        images: normalised images.
        divisor: H and W are multiples of this.
    """
    sizes = [image.shape[-2:] for image in images]
    height = -(-max(h for h, _ in sizes) // divisor) * divisor
    width = -(-max(w for _, w in sizes) // divisor) * divisor
    return torch.stack(
        [F.pad(image, (0, width - w, 0, height - h)) for image, (h, w) in zip(images, sizes, strict=True)]
    )
