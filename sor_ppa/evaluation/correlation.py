"""Pearson's and Spearman's correlation of short lists."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def pearson(x: NDArray, y: NDArray) -> float:
    """Return Pearson's correlation of (n,) numbers; NaN for fewer than two or where one list is constant."""
    if len(x) < 2 or x.min() == x.max() or y.min() == y.max():
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    value = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    return min(1.0, max(-1.0, value))


def spearman(x: NDArray, y: NDArray) -> float:
    """Return Spearman's rank correlation: Pearson's on average ranks."""
    return pearson(average_ranks(x), average_ranks(y))


def average_ranks(x: NDArray) -> NDArray[np.float64]:
    """Return ranks from 1 in ascending order; equal numbers share the mean of their places."""
    lower = (x[:, None] > x).sum(axis=1)
    equal = (x[:, None] == x).sum(axis=1)
    return lower + (equal + 1) * 0.5
