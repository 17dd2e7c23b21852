"""Geometry of the two views: their rectangles and the regions that they share (section 3.1)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
EDGE = 1e-3  # a clamped box may lie this far outside of its view after rounding, in pixels
JITTER = 0.1  # of the boxes that fill up a short list of regions


def resized_shape(width: int, height: int, short: int, longest: int) -> tuple[int, int]:
    """Return width and height with the shorter side at ``short`` and the longer at most ``longest``.

    Sides are truncated, but at least one pixel.
    """
    low, high = min(width, height), max(width, height)
    if high / low * short > longest:
        short = max(round(longest * low / high), 1)
    other = max(int(short * high / low), 1)
    return (short, other) if width < height else (other, short)


def outer_rectangle(
    width: int,
    height: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    draws: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Draw left, top, right and bottom of the rectangle around both views, in pixels.

    After ten draws that do not fit, it is the central rectangle of the nearest allowed aspect.

    Args:
        width: of the image in pixels.
        height: of the image in pixels.
        scale: smallest and largest area as a fraction of the image.
        aspect: smallest and largest width over height.
        draws: source of random numbers.
    """
    for _ in range(10):
        area = draws.uniform(*scale) * width * height
        ratio = math.exp(draws.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top = int(draws.integers(0, height - h + 1))
            left = int(draws.integers(0, width - w + 1))
            return left, top, left + w, top + h
    w, h = width, height
    if width / height < aspect[0]:
        h = max(round(width / aspect[0]), 1)
    elif width / height > aspect[1]:
        w = max(round(height * aspect[1]), 1)
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


@dataclass(frozen=True)
class TwoViews:
    """Two overlapping rectangles, both scaled to the size of the rectangle around them."""

    #: (2, 4) left, top, right, bottom of each view in the image.
    rectangles: Array
    #: (4,) of both views, in the image.
    intersection: Array
    #: of both views after scaling, in pixels.
    width: int
    height: int

    def to_view(self, boxes: Array, view: int) -> Array:
        """Convert (..., 4) corners in the image to pixels of view 0 or 1."""
        left, top, right, bottom = self.rectangles[view]
        scale = np.array([self.width / (right - left), self.height / (bottom - top)] * 2)
        return (boxes - np.array([left, top, left, top])) * scale

    def to_second(self, boxes: Array) -> Array:
        """Convert (..., 4) corners in pixels of view 0 to pixels of view 1."""
        left, top, right, bottom = self.rectangles[0]
        scale = np.array([(right - left) / self.width, (bottom - top) / self.height] * 2)
        return self.to_view(boxes * scale + np.array([left, top, left, top]), 1)

    @property
    def limits(self) -> Array:
        """Largest (x1, y1, x2, y2) in a view."""
        return np.array([self.width, self.height] * 2, dtype=np.float64)

    @property
    def iou(self) -> float:
        """IoU of the two rectangles."""
        inter = np.prod(self.intersection[2:] - self.intersection[:2])
        areas = np.prod(self.rectangles[:, 2:] - self.rectangles[:, :2], axis=1).sum()
        return float(inter / (areas - inter))


def cut_two_views(
    outer: tuple[int, int, int, int], iou: float, stochastic: bool, draws: np.random.Generator
) -> TwoViews:
    """Cut two views inside ``outer`` whose IoU is at least ``iou``, in random order.

    The intersection is concentric with ``outer``. One view spans from the top left of ``outer`` to the
    bottom right of the intersection, the other from the top left of the intersection to the bottom right
    of ``outer``. With the intersection's side s relative to ``outer`` their IoU is
    s^2 / (2 ((1 + s) / 2)^2 - s^2), solved for s. Moving the outer corners of the views inward raises it.

    Args:
        outer: left, top, right, bottom in pixels.
        iou: lowest IoU, in (0, 1].
        stochastic: shrink the views by a random amount.
        draws: source of random numbers.
    """
    left, top, right, bottom = outer
    width, height = right - left, bottom - top
    side = (iou + math.sqrt(2 * iou * iou + 2 * iou)) / (iou + 2)
    margin_x, margin_y = width * (1 - side) / 2, height * (1 - side) / 2
    inner = np.array([left + margin_x, top + margin_y, right - margin_x, bottom - margin_y])
    first = np.array([left, top, inner[2], inner[3]], dtype=np.float64)
    second = np.array([inner[0], inner[1], right, bottom], dtype=np.float64)
    if stochastic:
        limit = max(margin_y, 0.0)
        for corner, sign in ((first[:2], 1), (second[2:], -1)):
            shift = draws.uniform(0, limit)
            corner += sign * shift * np.array([width / height, 1.0])
    views = np.stack((second, first) if draws.random() > 0.5 else (first, second))
    return TwoViews(views, inner, width, height)


def map_regions(boxes: Array, views: TwoViews, min_area: float) -> tuple[Array, NDArray[np.int64]]:
    """Map the proposals that both views see into both.

    Args:
        boxes: (N, 4) corners in the image.
        views: the two views.
        min_area: smallest area as a fraction of the intersection, measured in view 0.

    Returns:
        (2, M, 4) corners in each view, and the (M,) indices of the proposals that are kept.
    """
    x1, y1, x2, y2 = views.intersection
    low = np.maximum(boxes[:, :2], [x1, y1])
    high = np.minimum(boxes[:, 2:], [x2 - 1, y2 - 1])  # without the right and the bottom pixel, as published
    return _keep_inside(views.to_view(np.concatenate((low, high), axis=1), 0), views, min_area)


def _keep_inside(first: Array, views: TwoViews, min_area: float) -> tuple[Array, NDArray[np.int64]]:
    """Keep boxes (N, 4) of view 0 that are large enough and lie in both views."""
    inner = views.to_view(views.intersection, 0)
    area = (first[:, 2:] - first[:, :2]).prod(axis=1)
    keep = area >= min_area * np.prod(inner[2:] - inner[:2])
    keep &= (first >= -EDGE).all(axis=1) & (first[:, 2:] >= first[:, :2]).all(axis=1)
    second = views.to_second(first)
    keep &= (second[:, :2] >= -EDGE).all(axis=1)
    keep &= (second[:, 2:] < views.limits[2:] + EDGE).all(axis=1)
    pair = np.stack((first[keep], second[keep]))
    return np.clip(pair, 0, views.limits), np.flatnonzero(keep)


def random_regions(
    views: TwoViews, *, count: int, max_aspect: float, min_area: float, draws: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Draw random regions inside the intersection (the published ablation).

    Args:
        views: the two views.
        count: number of draws; fewer regions remain.
        max_aspect: largest aspect ratio, either way, in both views.
        min_area: smallest area as a fraction of the intersection, in both views.
        draws: source of random numbers.

    Returns:
        as :func:`map_regions`; the indices count the draws.
    """
    x1, y1, x2, y2 = views.to_view(views.intersection, 0)
    smallest = min_area * (y2 - y1) * (x2 - x1)
    top = np.asarray(draws.integers(int(y1), max(int(y2), int(y1) + 1), size=count), dtype=np.float64)
    left = np.asarray(draws.integers(int(x1), max(int(x2), int(x1) + 1), size=count), dtype=np.float64)
    heights = draws.random(count) * (y2 - top) + 1e-10
    narrowest = smallest / heights
    widths = narrowest + draws.random(count) * (x2 - left - narrowest)
    first = np.stack((left, top, left + widths, top + heights), axis=1)
    second = views.to_second(first)
    keep = first[:, 2] < x2
    for boxes in (first, second):
        w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        ratio = w / (h + 1e-10)
        keep &= (ratio >= 1 / max_aspect) & (ratio <= max_aspect)
    keep &= (second[:, 2:] - second[:, :2]).prod(axis=1) >= smallest
    regions, index = _keep_inside(first[keep], views, 0.0)
    return regions, np.flatnonzero(keep)[index]


def fill_regions(regions: Array, views: TwoViews, count: int, draws: np.random.Generator) -> Array:
    """Return (2, count, 4): the intersection, then regions in order; a short list is repeated with jitter.

    Args:
        regions: (2, M, 4) corners in each view, M at least one.
        views: the two views.
        count: wanted regions.
        draws: source of random numbers.
    """
    assert regions.shape[1] > 0, "at least one region"
    inner = np.stack([views.to_view(views.intersection, v) for v in (0, 1)])[:, None]
    missing = count - 1 - regions.shape[1]
    if missing > 0:
        first = regions[0][np.arange(missing) % regions.shape[1]]
        size = first[:, 2:] - first[:, :2]
        noise = 1 / (1 + np.exp(-np.asarray(draws.standard_normal((missing, 4)))))
        first = first + np.concatenate((size, size), axis=1) * (2 * JITTER * noise - JITTER)
        x1, y1, x2, y2 = inner[0, 0]
        first = np.clip(first, [x1, y1, x1, y1], [x2 - 1, y2 - 1, x2 - 1, y2 - 1])
        pair = np.stack((first, views.to_second(first)))
        regions = np.concatenate((regions, np.clip(pair, 0, views.limits)), axis=1)
    return np.concatenate((inner, regions), axis=1)[:, :count]
