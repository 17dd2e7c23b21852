"""Gray values of painted maps inside objects, for all images of a group.

Rules get them through ``ImageScores.shared``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..group import FloatArray, Group

_GRAYS = 256


def gray_levels(group: Group, painter: str) -> list[dict[int, dict[int, int]]]:
    """Return the pixels of each gray value of the prediction inside each gray level of the ground truth."""
    level, value = group.painted_gt(painter).astype(np.int64), group.painted(painter)
    keys, places = np.unique((group.owner * _GRAYS + level) * _GRAYS + value, return_inverse=True)
    pixels = np.bincount(places.reshape(-1), weights=group.pixels).astype(np.int64)
    tables: list[dict[int, dict[int, int]]] = [{} for _ in range(len(group))]
    columns = keys // _GRAYS**2, keys // _GRAYS % _GRAYS, keys % _GRAYS, pixels
    for image, own, gray, count in zip(*(column.tolist() for column in columns), strict=True):
        tables[image].setdefault(own, {})[gray] = count
    return tables


def most_frequent(counts: Mapping[int, int]) -> int:
    """Return the value with the highest count, the smallest of equals."""
    return max(counts, key=lambda value: (counts[value], -value))


def gray_inside(group: Group, painter: str) -> tuple[NDArray[np.int64], FloatArray]:
    """Return V gray values, 0 first, and the pixels (N, G, V) of each inside each ground-truth mask."""
    painted, n_gt = group.painted(painter), group.gt.shape[1]
    present = np.bincount(painted, minlength=_GRAYS) > 0
    present[[0, -1]] = True  # so that there is one besides 0
    values, places = np.flatnonzero(present), np.cumsum(present) - 1
    cells = (group.owner[:, None] * n_gt + np.arange(n_gt)) * len(values) + places[painted][:, None]
    total = len(group) * n_gt * len(values)
    counts = np.bincount(cells.reshape(-1), group.weighted_gt.reshape(-1), total).astype(np.float64)
    return values, counts.reshape(-1, n_gt, len(values))


def mean_gray(group: Group, painter: str) -> FloatArray:
    """Return the mean painted value (N, G) inside each ground-truth mask, holes as 0; 0 for an empty mask."""
    values, counts = group.once(gray_inside, painter)
    return counts @ values.astype(np.float64) / np.maximum(group.gt_areas, 1)


def modal_gray(group: Group, painter: str) -> tuple[NDArray[np.int64], FloatArray]:
    """Return for each ground-truth mask (N, G) its most frequent nonzero gray value and its painted pixels.

    Of equally frequent values it is the smallest.
    """
    values, counts = group.once(gray_inside, painter)
    painted = counts[:, :, 1:]
    return values[1 + painted.argmax(axis=2)], painted.sum(axis=2)
