"""Gray values of painted maps inside objects.

Rules get them through ``ImageScores.once``. A map (R,) uint8 is given as bytes, so that equal maps of two
painters are measured once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..image import FloatArray, ImageScores


class GrayLevels(NamedTuple):
    """Pixels of a painted map by the levels of the painted ground truth.

    Attributes:
        level_areas: (L,) of the distinct nonzero gray levels of the ground truth, ascending.
        value_areas: (V,) of the distinct gray values of the prediction, ascending; the first one is 0.
        inside: (L, V) of each value inside each level.
    """

    level_areas: FloatArray
    value_areas: FloatArray
    inside: FloatArray


def gray_levels(image: ImageScores, painter: str) -> GrayLevels:
    """Return how the prediction and the ground truth are painted, without the objects."""
    truth, gray = image.painted_gt(painter), image.painted(painter)
    pixels = image.regions.pixels.astype(np.float64)
    levels, values = _distinct(truth), _distinct(gray)
    is_level = truth[:, None] == levels[levels > 0]
    is_value = gray[:, None] == np.append(np.uint8(0), values[values > 0])
    return GrayLevels(pixels @ is_level, pixels @ is_value, (is_level * pixels[:, None]).T @ is_value)


def gray_inside(image: ImageScores, painted: bytes) -> tuple[NDArray[np.uint8], FloatArray]:
    """Return the distinct gray values (V,) and their pixels in each ground-truth mask (G, V)."""
    gray = np.frombuffer(painted, np.uint8)
    values = _distinct(gray)
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


def _distinct(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the distinct values in ascending order."""
    return np.flatnonzero(np.bincount(gray)).astype(np.uint8)
