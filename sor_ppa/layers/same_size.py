"""Which images of a batch go through a network together."""

from __future__ import annotations

from collections.abc import Sequence

import torch

__all__ = ["CPU_PIXELS", "same_size_groups"]

#: Pixels that go through a network at once on a CPU: with more, the maps leave its caches and every image
#: takes longer.
CPU_PIXELS = 400_000


def same_size_groups(sizes: Sequence[tuple[int, int]], device: torch.device) -> list[list[int]]:
    """Images of one size together, on a CPU no more than it computes fastest.

    Args:
        sizes: (height, width) of each image as the network gets it, in pixels.
        device: that computes.

    Returns:
        Groups of positions in ``sizes``; every position is in one of them.
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
