"""Grouping the images of a batch by size."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["CPU_PIXELS", "same_size_groups"]

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
