"""From an image to the network's input: sizes and resizing as published."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import resize as antialiased_resize

__all__ = ["dynamic_size", "resize_antialiased"]

MULTIPLE = 32


def dynamic_size(height: int, width: int, limit: int = 1280) -> tuple[int, int]:
    """Return the size at which an image passes the network under the dynamic rule.

    The *shorter* side is limited (the aspect is kept), then each side is rounded to a multiple of 32, at
    least 32 (the published rule gives an empty image for a side of 16 pixels or less).

    Args:
        height, width: of the image in pixels.
        limit: of the shorter side in pixels; L in the published configuration files.

    Returns:
        (height, width), multiples of 32.
    """
    shorter = min(height, width)
    sides: list[float] = [height, width]
    if shorter > limit:
        sides = [limit if side == shorter else side / (shorter / limit) for side in sides]
    rounded = [max(round(side / MULTIPLE), 1) * MULTIPLE for side in sides]
    return rounded[0], rounded[1]


def resize_antialiased(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly with antialiasing.

    uint8 images on the CPU are resized by Pillow, bit for bit as in the published code; others by torch on
    their device, equal within one gray level.

    Args:
        image: (3, h, w), uint8 or floating, 0 ... 255.
        size: (H, W) in pixels.

    Returns:
        (3, H, W) of the same dtype.
    """
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    if image.dtype == torch.uint8 and image.device.type == "cpu":
        array = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        resized = Image.fromarray(array).resize((size[1], size[0]), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    return antialiased_resize(image, list(size))
