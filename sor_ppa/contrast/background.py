"""Robust background detection.

Zhu et al., Saliency Optimization from Robust Background Detection, CVPR 2014.
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from .superpixels import Superpixels

__all__ = ["background_probability", "optimize_saliency", "weighted_contrast"]

# Constants of the paper; colors in CIELAB units, places as fractions of the long side.
_SIGMA_COLOR = 10.0
_SIGMA_GEODESIC = 7.0
_SIGMA_PLACE = 0.25
_SIGMA_BOUNDARY = 1.0
_SMOOTHNESS = 0.1
_BACKGROUND_WEIGHT = 5.0


def background_probability(pixels: Superpixels) -> NDArray[np.float64]:
    """Return the (S,) probability that a superpixel is background, from boundary connectivity (eq. 2-5)."""
    count, edges, color = len(pixels), pixels.edges, pixels.color
    distance = np.linalg.norm(color[edges[:, 0]] - color[edges[:, 1]], axis=1)
    # Superpixels on the border count as neighbors of one another (section 3.2).
    border = np.flatnonzero(pixels.border > 0)
    i, j = (border[k] for k in np.triu_indices(len(border), 1))
    between = np.linalg.norm(color[i] - color[j], axis=1)
    # Small differences do not add up along a path: the typical distance to the nearest neighbor is free.
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, edges.ravel(), np.repeat(distance, 2))
    free = np.median(nearest[np.isfinite(nearest)]) if len(edges) else 0.0
    weight = np.maximum(np.concatenate([distance, between]) - free, 0) + 1e-6
    first, second = np.concatenate([edges[:, 0], i]), np.concatenate([edges[:, 1], j])
    keys, index = np.unique(first * count + second, return_index=True)
    graph = scipy.sparse.csr_matrix((weight[index], (keys // count, keys % count)), (count, count))
    # beyond four standard deviations nothing is left to add
    distance = scipy.sparse.csgraph.dijkstra(graph, directed=False, limit=4 * _SIGMA_GEODESIC)
    near = np.exp(-np.square(distance) / (2 * _SIGMA_GEODESIC**2))
    connectivity = near[:, border].sum(1) / np.sqrt(near.sum(1))  # eq. 5: boundary length / sqrt(area)
    return 1 - np.exp(-np.square(connectivity) / (2 * _SIGMA_BOUNDARY**2))


def weighted_contrast(pixels: Superpixels, background: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the (S,) color contrast to likely background, nearby superpixels counting more (eq. 6-7)."""
    color = np.linalg.norm(pixels.color[:, None] - pixels.color, axis=2)
    place = np.linalg.norm(pixels.center[:, None] - pixels.center, axis=2) / max(pixels.labels.shape)
    contrast = color * np.exp(-np.square(place) / (2 * _SIGMA_PLACE**2)) @ background
    return (contrast - contrast.min()) / max(np.ptp(contrast), 1e-9)


def optimize_saliency(
    pixels: Superpixels, background: NDArray[np.float64], foreground: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (S,) saliency in [0, 1]: the minimum of the quadratic cost of eq. 9, one sparse solve.

    Args:
        pixels: the superpixels.
        background: (S,) background probability.
        foreground: (S,) background-weighted contrast.
    """
    i, j = pixels.edges.T
    difference = np.square(pixels.color[i] - pixels.color[j]).sum(1)
    weight = np.exp(-difference / (2 * _SIGMA_COLOR**2)) + _SMOOTHNESS
    smooth = scipy.sparse.csr_matrix((weight, (i, j)), (len(pixels),) * 2)
    smooth = smooth + smooth.T
    foreground = np.where(foreground >= foreground.mean(), foreground, 0)
    data = _BACKGROUND_WEIGHT * background + foreground + 1e-6
    laplacian = scipy.sparse.diags(np.asarray(smooth.sum(1)).ravel() + data) - smooth
    saliency = np.atleast_1d(scipy.sparse.linalg.spsolve(laplacian.tocsc(), foreground))
    return (saliency - saliency.min()) / max(np.ptp(saliency), 1e-9)
