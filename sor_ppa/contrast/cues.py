"""Cues that tell an object from a part of it, from a group and from background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .superpixels import Superpixels

__all__ = ["CUES", "RegionCues", "measure_regions", "objectness"]

# Mean and standard deviation of each cue over regions of photographs, and the sign with which it counts.
# The weights of the sum are equal by default: with few cues of one scale, fitted weights do no better
# (Dawes, The robust beauty of improper linear models, 1979), and none of ours are fitted.
CUES: Mapping[str, tuple[float, float, int]] = {
    "COLOR": (2.5, 0.9, 1),
    "OUTLINE": (0.5, 0.4, -1),
    "UNIQUE": (0.05, 0.15, 1),
    "SURROUND": (0.6, 0.12, 1),
    "BACKGROUND": (0.6, 0.3, 1),
    "VARIETY": (5.5, 6.5, 1),
    "UPRIGHT": (-0.2, 0.6, 1),
    "BORDER": (0.6, 0.8, -1),
}
_WEAK_EDGE = 8.0  # color gradient, in CIELAB units
_SIZE = (-0.5, 0.5)  # log10 of the box area as a fraction of the picture: mean, standard deviation


@dataclass(frozen=True, eq=False)
class RegionCues:
    """Candidate regions with their cues.

    Attributes:
        members: (R, S) bool, superpixels of each region.
        boxes: (R, 4) left, top, right, bottom as fractions of the picture.
        cues: (R,) values by name, see ``CUES``; and SIZE, a log likelihood.
    """

    members: NDArray[np.bool_]
    boxes: NDArray[np.float32]
    cues: Mapping[str, NDArray[np.float32]]


def measure_regions(
    pixels: Superpixels,
    members: NDArray[np.bool_],
    background: NDArray[np.float64],
    min_contrast: float,
    min_outline: float,
) -> RegionCues:
    """Return the candidate regions that differ from their surround, with their cues.

    The surround of a region is all within two superpixels of it, as the center-surround
    contrast of Liu et al. (Learning to Detect a Salient Object, TPAMI 2011) and of Alexe et al.
    (Measuring the Objectness of Image Windows, TPAMI 2012) take it.

    Args:
        pixels: the superpixels.
        members: (R, S) bool.
        background: (S,) background probability.
        min_contrast: least CIELAB distance between the mean colors of a region and of its surround.
        min_outline: least share of a region's outline with an edge.
    """
    height, width = pixels.labels.shape
    inside = members.astype(np.float32)
    near = _add_neighbors(pixels, members, 2)
    ring = (near & ~members).astype(np.float32)
    beyond = (_add_neighbors(pixels, near, 2) & ~near).astype(np.float32)
    area, ring_area = inside @ pixels.area, np.maximum(ring @ pixels.area, 1)

    weighted = pixels.color * pixels.area[:, None]
    color = inside @ weighted / area[:, None]
    contrast = np.linalg.norm(color - ring @ weighted / ring_area[:, None], axis=1)
    variety = np.sqrt(np.maximum(inside @ (pixels.square * pixels.area) / area - np.square(color).sum(1), 0))

    words = inside @ pixels.words
    common = np.minimum(words, pixels.words.sum(0) - words).sum(1)
    behind = np.minimum(_normalized(ring @ pixels.words), _normalized(beyond @ pixels.words)).sum(1)

    i, j = pixels.edges.T
    cut = (members[:, i] != members[:, j]).astype(np.float32)
    weak = cut @ (pixels.length * (pixels.strength < _WEAK_EDGE)) / np.maximum(cut @ pixels.length, 1e-6)

    box = _boxes(pixels, members)
    sides = (box[:, :2] <= 1).sum(1) + (box[:, 2:] >= np.array([width - 1, height - 1])).sum(1)
    box_width, box_height = box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]
    size = (np.log10(box_width * box_height / (width * height)) - _SIZE[0]) / _SIZE[1]
    cues = {
        "COLOR": np.log1p(contrast),
        "OUTLINE": weak,
        # One minus the overlap of the colors in- and outside (Tang et al., Grabcut in One Cut, ICCV 2013).
        "UNIQUE": 1 - common / np.minimum(area, pixels.area.sum() - area),
        "SURROUND": np.where(beyond.any(1), behind, 0.5),
        "BACKGROUND": ring @ (background * pixels.area) / ring_area,
        "VARIETY": variety,
        "UPRIGHT": np.log(box_height / box_width),
        "BORDER": sides,
        "SIZE": -0.5 * np.square(size),
    }
    keep = (contrast >= min_contrast) & (1 - weak >= min_outline)
    boxes = box / np.array([width, height, width, height], np.float32)
    return RegionCues(members[keep], boxes[keep], {name: values[keep] for name, values in cues.items()})


def objectness(regions: RegionCues, weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return (R,) scores: the weighted sum of the standardized cues.

    Args:
        regions: the candidates.
        weights: of each cue and of SIZE.
    """
    score = weights["SIZE"] * regions.cues["SIZE"].astype(np.float64)
    for name, (mean, deviation, sign) in CUES.items():
        score = score + weights[name] * sign * (regions.cues[name] - mean) / deviation
    return score


def _add_neighbors(pixels: Superpixels, members: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
    """Add the neighbors of regions, ``steps`` times."""
    for _ in range(steps):
        members = members | ((pixels.adjacency @ members.T.astype(np.float32)).T > 0)
    return members


def _normalized(histogram: NDArray[np.float32]) -> NDArray[np.float32]:
    return histogram / np.maximum(histogram.sum(1, keepdims=True), 1e-6)


def _boxes(pixels: Superpixels, members: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return (R, 4) boxes of regions in pixels."""
    low = [np.where(members, pixels.box[:, k], np.inf).min(1) for k in (0, 1)]
    high = [np.where(members, pixels.box[:, k], -np.inf).max(1) for k in (2, 3)]
    return np.stack([*low, *high], 1).astype(np.float32)
