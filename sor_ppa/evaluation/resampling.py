"""How sure a difference is: bootstrap intervals and paired tests over images, for many columns at once.

A column holds one value an image, NaN where the image is not used. All random numbers have a fixed seed.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["bootstrap_intervals", "holm", "sign_flip_p_values"]

FloatArray = NDArray[np.float64]
_CHUNK = 250  # resamples at a time


def bootstrap_intervals(values: FloatArray, draws: int = 1000, level: float = 0.95) -> FloatArray:
    """Return the percentile intervals of the means (Efron & Tibshirani 1993, chapter 13).

    Each draw takes as many images as there are, with replacement, the same for all columns.

    Args:
        values: (I, C).
        draws: number of resamples.
        level: of the intervals.

    Returns:
        (2, C) lower and upper ends; NaN for a column without values.
    """
    used = ~np.isnan(values)
    filled = np.where(used, values, 0.0)
    places: dict[bytes, int] = {}  # most columns use the same images
    mask_of = [places.setdefault(column.tobytes(), len(places)) for column in used.T]
    masks = np.stack([np.frombuffer(mask, np.bool_) for mask in places], axis=1)
    means = np.empty((draws, values.shape[1]))
    generator, images = np.random.default_rng(0), len(values)
    for chunk in _chunks(draws):
        drawn = generator.integers(0, images, (chunk.stop - chunk.start, images))
        weights = np.stack([np.bincount(row, minlength=images) for row in drawn]).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[chunk] = weights @ filled / (weights @ masks)[:, mask_of]
    tail = 50 * (1 - level)
    ends = np.full((2, values.shape[1]), np.nan)
    some = used.any(axis=0)
    if some.any():
        ends[:, some] = np.nanpercentile(means[:, some], [tail, 100 - tail], axis=0)
    return ends


def sign_flip_p_values(differences: FloatArray, draws: int = 5000) -> FloatArray:
    """Return two-sided p-values of paired permutation tests.

    Where two methods are equal, exchanging their values in any image changes the sign of a difference at
    random. The p-value is the share of random signs, the given ones included, whose mean is as far from 0.

    Args:
        differences: (I, C).
        draws: number of random signs; the smallest p-value is 1 / (draws + 1).

    Returns:
        (C,); 1 for a column without values.
    """
    filled = np.nan_to_num(differences, nan=0.0)
    wanted = np.abs(filled.sum(axis=0)) * (1 - 1e-12)  # rounding must not break ties
    extreme = np.zeros(filled.shape[1], np.int64)
    generator, images = np.random.default_rng(1), len(filled)
    for chunk in _chunks(draws):
        bits = generator.integers(0, 2, (chunk.stop - chunk.start, images), np.int8)
        extreme += (np.abs((2.0 * bits - 1) @ filled) >= wanted).sum(axis=0)
    return (1 + extreme) / (1 + draws)


def holm(p_values: FloatArray) -> FloatArray:
    """Return the p-values (n,) of n tests, corrected for their number (Holm, Scand. J. Statist. 1979)."""
    number = len(p_values)
    order = np.argsort(p_values, kind="stable")
    corrected = np.empty(number)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(number, 0, -1))
    return np.minimum(corrected, 1.0)


def _chunks(draws: int) -> Iterator[slice]:
    return (slice(first, min(first + _CHUNK, draws)) for first in range(0, draws, _CHUNK))
