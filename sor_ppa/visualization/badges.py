"""Round badges with a rank: where they are placed and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .text import draw_text, text_width

__all__ = ["CASING", "Badge", "draw_badge", "place_badges"]

# The dark color around badges and outlines, which keeps them visible on any background.
CASING = (18, 18, 22)
# Longest side of the grid on which a place is searched.
_GRID = 64
# Free space between two badges, in radii.
_GAP = 0.25


@dataclass(frozen=True)
class Badge:
    """A placed badge.

    Attributes:
        center: (x, y) in pixels.
        radius: in pixels, the ring included.
        anchor: (x, y) of a point in the object if the badge is placed beside it, else None.
    """

    center: tuple[float, float]
    radius: float
    anchor: tuple[float, float] | None = None


def place_badges(
    regions: Sequence[tuple[NDArray[np.bool_], int, int]],
    size: tuple[int, int],
    radii: Sequence[float],
    min_radius: float,
) -> list[Badge | None]:
    """Choose a place for the badge of each object; earlier objects choose first.

    A badge is placed where its object is widest (the pole of inaccessibility), away from badges that are
    already placed. If an object is too narrow for a badge, the badge is placed beside it.

    Args:
        regions: for each object, its mask cropped to its bounding box, and the left and top of the box.
        size: (height, width) of the picture.
        radii: the wanted radius of each badge in pixels.
        min_radius: smallest radius in pixels at which the number is readable.

    Returns:
        One badge per region, inside the picture if it fits; None for an empty region.
    """
    largest = max(min(size) / 2 - 1, 1.0)
    taken = np.zeros((0, 3))  # x, y, radius of the placed badges
    badges: list[Badge | None] = []
    for (crop, left, top), wanted in zip(regions, radii, strict=True):
        badge = None
        if crop.any():
            radius = min(wanted, largest)
            badge = _place(crop, np.array([left, top]), size, radius, min(min_radius, radius), taken)
            taken = np.vstack([taken, [*badge.center, badge.radius]])
        badges.append(badge)
    return badges


def _place(
    crop: NDArray[np.bool_],
    corner: NDArray[np.int64],
    size: tuple[int, int],
    radius: float,
    min_radius: float,
    taken: NDArray[np.float64],
) -> Badge:
    points, depth = _inner_points(crop)
    points += corner
    deepest = depth.max()
    anchor = None
    if deepest < 0.75 * min_radius:
        # Choose among 16 places around the box; prefer those above it.
        radius = min_radius
        extent = np.array(crop.shape[::-1]) / 2
        angle = np.arange(16) * (np.pi / 8) - np.pi / 2
        wanted = corner + extent + np.stack([np.cos(angle), np.sin(angle)], 1) * (extent + 1.6 * radius)
        inside = _clamp(wanted, size, radius)
        quality = -np.linalg.norm(inside - wanted, axis=1) - 0.2 * radius * (1 + np.sin(angle))
        x, y = points[depth.argmax()]
        anchor = (float(x), float(y))
    else:
        radius = float(np.clip(0.9 * deepest, min_radius, radius))
        inside = _clamp(points, size, radius)
        # Depth beyond the radius counts little; among places of equal depth the middle of the object wins.
        off_middle = np.linalg.norm(points - points.mean(axis=0), axis=1)
        quality = np.minimum(depth, 1.2 * radius) + 0.1 * depth - 0.05 * off_middle
    distance = np.linalg.norm(inside[:, None] - taken[:, :2], axis=2)
    overlap = np.maximum((1 + _GAP) * radius + taken[:, 2] - distance, 0).sum(1)
    x, y = inside[(quality - 3.0 * overlap).argmax()]
    return Badge((float(x), float(y)), radius, anchor)


def _inner_points(crop: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.floating]]:
    """Return points (P, 2) of an object as x, y and their distances (P,) to its edge, in pixels."""
    height, width = crop.shape
    scale = min(1.0, _GRID / max(height, width))
    grid = (max(round(width * scale), 1), max(round(height * scale), 1))
    share = cv2.resize(crop.astype(np.float32), grid, interpolation=cv2.INTER_AREA)
    small = share >= min(0.5, share.max())
    # Padding makes the border of the picture an edge of the object.
    depth = cv2.distanceTransform(np.pad(small, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.nonzero(small)
    step = np.array([width / grid[0], height / grid[1]])
    return (np.stack([columns, rows], axis=1) + 0.5) * step, depth[rows, columns] * float(step.mean())


def _clamp(points: NDArray[np.float64], size: tuple[int, int], radius: float) -> NDArray[np.float64]:
    """Move points (P, 2) so that a badge on them lies inside a picture of ``size`` (height, width)."""
    extent = np.array([size[1], size[0]], np.float64)
    return np.clip(points, np.minimum(radius + 1, extent / 2), np.maximum(extent - radius - 1, extent / 2))


def draw_badge(
    canvas: NDArray[np.uint8], badge: Badge, text: str, color: NDArray[np.uint8], ring: float
) -> None:
    """Draw a badge in place: a dark casing, a white ring, a disc in the color of the rank, the number.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        badge: where.
        text: the number.
        color: (3,) RGB.
        ring: width of the ring in pixels.
    """
    radius = badge.radius - ring
    fills = ((badge.radius + 0.7 * ring, CASING), (badge.radius, (255, 255, 255)), (radius, color.tolist()))
    center = [round((value - 0.5) * 16) for value in badge.center]  # OpenCV takes sixteenths of a pixel
    for reach, fill in fills:
        cv2.circle(canvas, center, max(round(reach * 16), 0), fill, -1, cv2.LINE_AA, 4)
    size = max(round(1.42 * radius), 5)
    wide = text_width(text, size, bold=True)
    size = max(min(size, int(size * 1.62 * radius / max(wide, 1))), 5)
    ink = (16, 16, 16) if color @ np.array([0.299, 0.587, 0.114]) > 140 else (255, 255, 255)
    draw_text(canvas, text, badge.center, size=size, color=ink, bold=True, centered=True)
