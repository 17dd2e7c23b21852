"""Pearson's and Spearman's correlation of short lists, and the two kinds of ranks they are fed with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def pearson(x: NDArray, y: NDArray) -> float:
    """Pearson's correlation coefficient.

    Args:
        x, y: (n,) numbers.

    Returns:
        The coefficient in [-1, 1]; NaN for fewer than two numbers or where one list is constant.
    """
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return math.nan
    a = x - x.mean()
    b = y - y.mean()
    value = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return min(1.0, max(-1.0, value))


def spearman(x: NDArray, y: NDArray) -> float:
    """Spearman's rank correlation: Pearson's on average ranks (tied numbers share their mean rank)."""
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(x: NDArray) -> FloatArray:
    """Ranks from 1 in ascending order; equal numbers get the mean of the places they fill."""
    lower = (x[:, None] > x).sum(axis=1)
    equal = (x[:, None] == x).sum(axis=1)
    return lower + (equal + 1) * 0.5


def lowest_place_ranks(x: NDArray, among: NDArray | None = None) -> NDArray[np.int64]:
    """1 + the number of entries of ``among`` (default: ``x``) that are strictly lower."""
    return 1 + np.count_nonzero(x[:, None] > (x if among is None else among), axis=1)
