"""Content-aware cropping: the window of a given aspect that keeps the most salient objects.

Cropping is the first application that the PPA paper names (ICCV 2021, section 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Crop", "choose_crop", "parse_aspect"]


@dataclass(frozen=True)
class Crop:
    """A window of a picture.

    Attributes:
        box: left, top, right, bottom in whole pixels; right and bottom are exclusive.
        kept: share of each object's pixels inside the window, in the order of the objects.
    """

    box: tuple[int, int, int, int]
    kept: tuple[float, ...]

    @property
    def lost(self) -> tuple[int, ...]:
        """Indices of the objects that are cut or outside."""
        return tuple(i for i, share in enumerate(self.kept) if share < 1)

    def apply(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the window of a picture (H, W, ...), as a view."""
        left, top, right, bottom = self.box
        return picture[top:bottom, left:right]


def parse_aspect(text: str) -> float:
    """Return width divided by height of an aspect such as ``16:9``, ``640x480`` or ``1.5``.

    Raises:
        ValueError: it is no aspect.
    """
    parts = text.lower().replace("x", ":").split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 2) or not all(0 < number < 1e6 for number in numbers):
        raise ValueError(f"aspect: expected such as 16:9, 640x480 or 1.5, found {text!r}")
    return numbers[0] / numbers[1] if len(numbers) == 2 else numbers[0]


def choose_crop(masks: NDArray[np.bool_], aspect: float) -> Crop:
    """Choose the largest window of an aspect that keeps the objects by rank.

    The largest window spans the picture in one direction, so only its offset in the other is open. Each
    object in turn, most salient first, restricts the offsets to those that keep it whole, unless none of the
    offsets left does. Among the rest the window with the largest share of the objects wins, weighted 1, 1/2,
    1/4, ... by rank, and of equal ones the most central.

    Args:
        masks: (N, H, W), most salient first. Without objects the window is central.
        aspect: width divided by height of the window.

    Returns:
        The window and what it keeps.
    """
    height, width = masks.shape[1:]
    across = width > aspect * height  # the window slides from left to right
    size, other = (width, height) if across else (height, width)
    window = int(np.clip(round(other * aspect if across else other / aspect), 1, size))
    profiles = masks.sum(axis=1 if across else 2, dtype=np.int64)  # (N, size) pixels of each object
    start = _offset(profiles, window)
    box = (start, 0, start + window, height) if across else (0, start, width, start + window)
    totals = profiles.sum(axis=1)
    inside = profiles[:, start : start + window].sum(axis=1)
    return Crop(
        box, tuple(float(part / total) if total else 1.0 for part, total in zip(inside, totals, strict=True))
    )


def _offset(profiles: NDArray[np.int64], window: int) -> int:
    """Offset of the window along one axis; profiles are (N, size) pixels of each object."""
    count, size = profiles.shape
    first, last = 0, size - window
    mass = np.zeros(last + 1)
    for rank in range(count):
        places = np.flatnonzero(profiles[rank])
        if len(places) == 0:
            continue
        low, high = max(first, places[-1] + 1 - window), min(last, places[0])
        if low <= high:
            first, last = low, high
        sums = np.concatenate([[0], np.cumsum(profiles[rank])])
        mass += 0.5**rank * (sums[window:] - sums[: len(mass)]) / sums[-1]
    allowed = mass[first : last + 1]
    best = np.flatnonzero(allowed >= allowed.max() - 1e-9) + first
    wanted = _center(profiles) - window / 2
    return int(best[np.abs(best - wanted).argmin()])


def _center(profiles: NDArray[np.int64]) -> float:
    """Weighted center of the objects along the axis; the middle without objects."""
    size = profiles.shape[1]
    totals = profiles.sum(axis=1)
    weights = 0.5 ** np.arange(len(profiles)) * (totals > 0)
    if not weights.any():
        return size / 2
    centers = profiles @ (np.arange(size) + 0.5) / np.maximum(totals, 1)
    return float(centers @ weights / weights.sum())
