"""Gray values of painted maps inside objects.

Rules get them through ``ImageScores.once``. A map (R,) uint8 is given as bytes, so that equal maps of two
painters are measured once.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..image import FloatArray, ImageScores


def gray_levels(image: ImageScores, painter: str) -> dict[int, dict[int, int]]:
    """Return the pixels of each gray value of the prediction inside each gray level of the ground truth."""
    table: dict[int, dict[int, int]] = {}
    columns = image.painted_gt(painter), image.painted(painter), image.regions.pixels
    for level, value, count in zip(*(column.tolist() for column in columns), strict=True):
        row = table.setdefault(level, {})
        row[value] = row.get(value, 0) + count
    return table


def most_frequent(counts: Mapping[int, int]) -> int:
    """Return the value with the highest count, the smallest of equals."""
    return max(counts, key=lambda value: (counts[value], -value))


def gray_inside(image: ImageScores, painted: bytes) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return the distinct gray values (V,) and their pixels in each ground-truth mask (G, V)."""
    gray = np.frombuffer(painted, np.uint8)
    values = np.flatnonzero(np.bincount(gray)).astype(np.uint8)
    return values, image.weighted_gt @ (gray[:, None] == values)


def mean_gray(image: ImageScores, painted: bytes) -> list[float]:
    """Return the mean painted value inside each of G ground-truth masks, holes as 0; 0 for an empty mask."""
    values, counts = image.once(gray_inside, painted)
    return (counts @ values.astype(np.float64) / np.maximum(image.gt_areas, 1)).tolist()


def modal_gray(image: ImageScores, painted: bytes) -> list[tuple[int, float]]:
    """Return for each of G ground-truth masks its most frequent nonzero gray value and its painted pixels.

    Of equally frequent values it is the smallest; 0 in a map without any.
    """
    values, counts = image.once(gray_inside, painted)
    if values[0] == 0:
        values, counts = values[1:], counts[:, 1:]
    if not len(values):
        return [(0, 0.0)] * image.n_gt
    return list(zip(values[counts.argmax(axis=1)].tolist(), counts.sum(axis=1).tolist(), strict=True))
