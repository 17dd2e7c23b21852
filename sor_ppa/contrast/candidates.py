"""Candidate regions: nodes of region trees, and components of the saliency map at many thresholds."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np
import scipy
from numpy.typing import NDArray

from .superpixels import Superpixels

__all__ = ["candidate_regions"]

_LEAST_AREA, _MOST_AREA = 0.004, 0.8  # of a candidate, as a fraction of the picture
_THRESHOLDS = 16
# Columns of the sums by which regions are compared; the color words follow.
_AREA, _COLOR, _SALIENCY, _BACKGROUND, _WORDS = 0, slice(1, 4), 4, 5, 6

Sums = NDArray[np.float64]
Strength = NDArray[np.float32] | NDArray[np.float64]
Distance = Callable[[Sums, Sums, Strength], Sums]


def candidate_regions(
    pixels: Superpixels, saliency: NDArray[np.float64], background: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return (R, S) candidate regions as sets of superpixels, without holes and duplicates.

    Args:
        pixels: the superpixels.
        saliency: (S,) in [0, 1].
        background: (S,) background probability.
    """
    area = pixels.area.astype(np.float64)[:, None]
    cues = np.column_stack([np.ones(len(pixels)), pixels.color, saliency, 1 - background])
    sums = np.hstack([cues * area, pixels.words])
    regions = [_merge(pixels, sums, distance) for distance in (_by_similarity, _by_color, _by_saliency)]
    regions += [_components(pixels, values) for values in (saliency, 1 - background)]
    found = _of_usual_size(pixels, np.concatenate(regions))
    found = _of_usual_size(pixels, _fill_holes(pixels, found))
    _, first = np.unique(np.packbits(found, axis=1), axis=0, return_index=True)
    return found[np.sort(first)]


def _of_usual_size(pixels: Superpixels, regions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    share = regions @ pixels.area / pixels.area.sum()
    return regions[(share > _LEAST_AREA) & (share < _MOST_AREA)]


def _by_similarity(a: Sums, b: Sums, strength: Strength) -> Sums:
    """Color and texture words and size, as in selective search (Uijlings et al., IJCV 2013, section 3.2)."""
    size_a, size_b = a[:, :1], b[:, :1]
    common = np.minimum(a[:, _WORDS:] / size_a, b[:, _WORDS:] / size_b).sum(1)
    return (size_a + size_b)[:, 0] - 2 * common


def _by_color(a: Sums, b: Sums, strength: Strength) -> Sums:
    """Mean color and edge; the factor is Ward's, it joins small regions first."""
    color = np.sqrt(np.square(a[:, _COLOR] / a[:, :1] - b[:, _COLOR] / b[:, :1]).sum(1))
    return (color + strength) * np.sqrt(np.minimum(a[:, 0], b[:, 0]))


def _by_saliency(a: Sums, b: Sums, strength: Strength) -> Sums:
    """Saliency, background probability, color and edge, with Ward's factor."""
    size_a, size_b = a[:, :1], b[:, :1]
    mean = np.abs(a[:, :_WORDS] / size_a - b[:, :_WORDS] / size_b)
    color = np.sqrt(np.square(mean[:, _COLOR]).sum(1))
    distance = 100 * mean[:, _SALIENCY] + 50 * mean[:, _BACKGROUND] + 0.5 * (color + strength)
    return distance * np.sqrt(np.minimum(size_a, size_b)[:, 0])


def _merge(pixels: Superpixels, sums: Sums, distance: Distance) -> NDArray[np.bool_]:
    """Join the closest neighbors until one region is left; return every region on the way, (<= 2S - 1, S).

    Args:
        pixels: the superpixels.
        sums: (S, F) features that add up when regions join; the first is the area.
        distance: from features of two sets of regions (N, F) and edge strengths (N,) to distances (N,).
    """
    count = len(pixels)
    features = np.zeros((2 * count - 1, sums.shape[1]))
    features[:count] = sums
    features[:, _AREA] /= sums[:, _AREA].sum()
    features[:, 1:] /= sums[:, _AREA].sum()
    members = np.zeros((2 * count - 1, count), bool)
    members[np.arange(count), np.arange(count)] = True
    neighbors: list[dict[int, tuple[float, float]]] = [{} for _ in range(2 * count - 1)]
    pairs, lengths = pixels.edges.tolist(), pixels.length.tolist()
    for (a, b), length, strength in zip(pairs, lengths, pixels.strength.tolist(), strict=True):
        neighbors[a][b] = neighbors[b][a] = (length, length * strength)
    near = distance(features[pixels.edges[:, 0]], features[pixels.edges[:, 1]], pixels.strength)
    queue = [(d, a, b) for d, (a, b) in zip(near.tolist(), pairs, strict=True)]
    heapq.heapify(queue)
    alive, new = bytearray([1] * count + [0] * (count - 1)), count
    while queue:
        _, a, b = heapq.heappop(queue)
        if not (alive[a] and alive[b]):
            continue
        alive[a] = alive[b] = 0
        alive[new] = 1
        features[new] = features[a] + features[b]
        members[new] = members[a] | members[b]
        around = {k: v for k, v in neighbors[a].items() if alive[k]}
        for k, (length, total) in neighbors[b].items():
            if alive[k]:
                before = around.get(k, (0.0, 0.0))
                around[k] = (before[0] + length, before[1] + total)
        neighbors[new] = around
        if around:
            others = list(around)
            values = np.array(list(around.values()))
            for k, v in around.items():
                neighbors[k][new] = v
            near = distance(features[new : new + 1], features[others], values[:, 1] / values[:, 0])
            for d, k in zip(near.tolist(), others, strict=True):
                heapq.heappush(queue, (d, k, new))
        new += 1
    return members[:new]


def _components(pixels: Superpixels, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the connected components (N, S) of superpixels above each of several quantiles."""
    i, j = pixels.edges.T
    found = [np.zeros((0, len(pixels)), bool)]
    for threshold in np.unique(np.quantile(values, np.linspace(0.2, 0.98, _THRESHOLDS))):
        above = values >= threshold
        inside = above[i] & above[j]
        graph = scipy.sparse.csr_matrix((np.ones(inside.sum()), (i[inside], j[inside])), (len(pixels),) * 2)
        label = scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
        found.append(label == np.unique(label[above])[:, None])
    return np.concatenate(found)


def _fill_holes(pixels: Superpixels, regions: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Add to each region the superpixels from which no path outside it leads to the border."""
    outside = ~regions & (pixels.border > 0)
    growing = np.arange(len(regions))
    while len(growing):
        before = outside[growing]
        near = (pixels.adjacency @ before.T.astype(np.float32)).T > 0
        after = before | (near & ~regions[growing])
        outside[growing] = after
        growing = growing[(after != before).any(1)]
    return ~outside
