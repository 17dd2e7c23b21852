"""Grouping the images of a batch by size, and their padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = [
    "CPU_PIXELS",
    "ceil_divide",
    "corner_limits",
    "inside_images",
    "round_up",
    "same_size_groups",
    "without_padding",
]

#: Pixels that a CPU computes at once. With more, feature maps no longer fit into its caches and each image
#: takes longer.
CPU_PIXELS = 400_000


def same_size_groups(sizes: Sequence[tuple[int, int]], device: torch.device) -> list[list[int]]:
    """Group images of one size; on a CPU, split the groups to at most ``CPU_PIXELS`` each.

    Args:
        sizes: (height, width) of each network input, in pixels.
        device: where the network runs.

    Returns:
        Groups of positions in ``sizes``; every position is in exactly one.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index, size in enumerate(sizes):
        groups.setdefault(size, []).append(index)
    if device.type != "cpu":
        return list(groups.values())
    parts = []
    for (height, width), members in groups.items():
        step = max(CPU_PIXELS // max(height * width, 1), 1)
        parts += [members[i : i + step] for i in range(0, len(members), step)]
    return parts


def ceil_divide(number: int, divisor: int) -> int:
    """Return the quotient of positive numbers, rounded up, also of the symbolic sizes of an export.

    ONNX rounds the ``-(-a // b)`` of such sizes towards zero.
    """
    return (number + divisor - 1) // divisor


def round_up(number: int, step: int) -> int:
    """Return a positive number rounded up to a multiple of ``step``; see :func:`ceil_divide`."""
    return ceil_divide(number, step) * step


def corner_limits(sizes: Tensor) -> Tensor:
    """Return the largest XYXY corners (B, 1, 4) in images of (height, width) ``sizes`` (B, 2) in pixels."""
    return sizes.flip(1).repeat(1, 2)[:, None]


def inside_images(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return XYXY boxes (B, M, 4) clipped to images of (height, width) ``sizes`` (B, 2), all in pixels."""
    return boxes.clamp(min=0).minimum(corner_limits(sizes).to(boxes.dtype))


def without_padding(images: Tensor, sizes: Tensor) -> Tensor:
    """Return images (B, C, H, W) with zeros outside the sizes (B, 2), height and width in pixels."""
    rows = torch.arange(images.shape[2], device=images.device) < sizes[:, :1]
    columns = torch.arange(images.shape[3], device=images.device) < sizes[:, 1:]
    return images.where((rows[:, :, None] & columns[:, None])[:, None], 0.0)
