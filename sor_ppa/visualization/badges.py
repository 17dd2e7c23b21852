"""Round badges with a rank: where they stand, and how they are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .text import text_mask, text_width

__all__ = ["Badge", "draw_badge", "place_badges"]

# Longest side of the grid on which a place is looked for; a badge needs no better.
_GRID = 64
# Free space between two badges, in radii.
_GAP = 0.25


@dataclass(frozen=True)
class Badge:
    """One badge.

    Attributes:
        center: (x, y) in pixels.
        radius: in pixels, the ring included.
        anchor: (x, y) of a point in the object where the badge stands beside it, else None.
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

    A badge stands where its object is widest (the pole of inaccessibility) unless another badge
    is there already. An object too narrow to carry one gets it beside, with a line to it.

    Args:
        regions: per object its mask cropped to its bounding box, and the box's left and top.
        size: (height, width) of the picture.
        radii: per object the wanted radius in pixels.
        min_radius: smallest radius in pixels at which the number can be read.

    Returns:
        One badge a region; None for an empty region. Every badge lies inside the picture where
        the picture is large enough for one.
    """
    largest = max(min(size) / 2 - 1, 1.0)
    # Columns: x, y, radius of the badges placed so far.
    taken = np.zeros((0, 3))
    badges: list[Badge | None] = []
    for (crop, left, top), wanted in zip(regions, radii, strict=True):
        radius = min(wanted, largest)
        badge = None
        if crop.any():
            badge = _place(crop, left, top, size, radius, min(min_radius, radius), taken)
        badges.append(badge)
        if badge is not None:
            taken = np.vstack([taken, [*badge.center, badge.radius]])
    return badges


def _place(
    crop: NDArray[np.bool_],
    left: int,
    top: int,
    size: tuple[int, int],
    radius: float,
    min_radius: float,
    taken: NDArray[np.float64],
) -> Badge:
    points, depth = _inner_points(crop, left, top)
    deepest = depth.max()
    if deepest < 0.75 * min_radius:
        return _place_beside(crop, left, top, points[depth.argmax()], size, min_radius, taken)
    radius = float(np.clip(0.9 * deepest, min_radius, radius))
    inside = _clamp(points, size, radius)
    # Room enough is room enough; beyond it depth counts little. Along a ridge of equal depth the
    # middle of the object wins; its weight is too small to leave the ridge for it.
    off_middle = np.linalg.norm(points - points.mean(axis=0), axis=1)
    room = np.minimum(depth, 1.2 * radius) + 0.1 * depth - 0.05 * off_middle
    best = int((room - 3.0 * _crowding(inside, radius, taken)).argmax())
    return Badge((float(inside[best, 0]), float(inside[best, 1])), radius)


def _inner_points(
    crop: NDArray[np.bool_], left: int, top: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of an object (P, 2) as x, y and their distance to its edge (P,), in pixels of the picture."""
    height, width = crop.shape
    scale = min(1.0, _GRID / max(height, width))
    if scale < 1.0:
        grid = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(crop.view(np.uint8) * np.uint8(255), grid, interpolation=cv2.INTER_AREA) >= 128
        if not small.any():
            small = cv2.resize(crop.view(np.uint8) * np.uint8(255), grid, interpolation=cv2.INTER_AREA) > 0
    else:
        small = crop
    # The pad makes the edge of the picture an edge of the object.
    depth = cv2.distanceTransform(np.pad(small, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    rows, columns = np.nonzero(small)
    step = np.array([width / small.shape[1], height / small.shape[0]])
    points = (np.stack([columns, rows], axis=1) + 0.5) * step + [left, top]
    return points, depth[rows, columns].astype(np.float64) * float(step.mean())


def _place_beside(
    crop: NDArray[np.bool_],
    left: int,
    top: int,
    anchor: NDArray[np.float64],
    size: tuple[int, int],
    radius: float,
    taken: NDArray[np.float64],
) -> Badge:
    """The freest of 16 places around the object's box, those above it preferred."""
    height, width = crop.shape
    angle = np.arange(16) * (2 * np.pi / 16) - np.pi / 2
    reach = np.array([width / 2 + 1.6 * radius, height / 2 + 1.6 * radius])
    middle = np.array([left + width / 2, top + height / 2])
    wanted = middle + np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach
    inside = _clamp(wanted, size, radius)
    pushed = np.linalg.norm(inside - wanted, axis=1)
    below = 0.2 * radius * (1.0 + np.sin(angle))
    best = int((pushed + below + 3.0 * _crowding(inside, radius, taken)).argmin())
    x, y = inside[best]
    return Badge((float(x), float(y)), radius, (float(anchor[0]), float(anchor[1])))


def _clamp(points: NDArray[np.float64], size: tuple[int, int], radius: float) -> NDArray[np.float64]:
    """Points (P, 2) moved so that a badge on them lies inside a picture of ``size`` (height, width)."""
    extent = np.array([size[1], size[0]], np.float64)
    return np.clip(points, np.minimum(radius + 1, extent / 2), np.maximum(extent - radius - 1, extent / 2))


def _crowding(points: NDArray[np.float64], radius: float, taken: NDArray[np.float64]) -> NDArray[np.float64]:
    """How deep a badge on each point (P,) would cut into the badges already there, in pixels."""
    if not len(taken):
        return np.zeros(len(points))
    distance = np.hypot(points[:, None, 0] - taken[:, 0], points[:, None, 1] - taken[:, 1])
    wanted = (radius + taken[:, 2]) + _GAP * radius
    return np.maximum(wanted - distance, 0.0).sum(axis=1)


def draw_badge(
    canvas: NDArray[np.uint8], badge: Badge, text: str, color: NDArray[np.uint8], outline: float
) -> None:
    """Draw one badge, in place: a dark shadow, a white ring, a disc in the rank's colour, the number.

    Args:
        canvas: (H, W, 3) uint8 RGB.
        badge: where.
        text: the number.
        color: (3,) RGB.
        outline: width in pixels of the ring.
    """
    (cx, cy), radius = badge.center, badge.radius
    margin = 1.5 * outline + 1
    x0, y0 = int(max(np.floor(cx - radius - margin), 0)), int(max(np.floor(cy - radius - margin), 0))
    x1 = int(min(np.ceil(cx + radius + margin) + 1, canvas.shape[1]))
    y1 = int(min(np.ceil(cy + radius + margin) + 1, canvas.shape[0]))
    if x0 >= x1 or y0 >= y1:
        return
    # Distance of every pixel centre from the badge's centre: coverage of a disc without stair steps.
    distance = np.hypot(np.arange(x0, x1) + 0.5 - cx, (np.arange(y0, y1) + 0.5 - cy)[:, None])
    patch = canvas[y0:y1, x0:x1].astype(np.float32)
    shadow = 0.55 * np.clip((radius + 1.5 * outline - distance) / (1.5 * outline), 0, 1)
    _blend(patch, shadow, np.zeros(3))
    _blend(patch, np.clip(radius + 0.5 - distance, 0, 1), np.full(3, 255.0))
    _blend(patch, np.clip(radius - outline + 0.5 - distance, 0, 1), color.astype(np.float64))
    _write_number(patch, text, (cx - x0, cy - y0), radius - outline, color)
    canvas[y0:y1, x0:x1] = np.rint(patch)


def _write_number(
    patch: NDArray[np.float32],
    text: str,
    center: tuple[float, float],
    radius: float,
    color: NDArray[np.uint8],
) -> None:
    size = max(round(1.42 * radius), 5)
    room = 1.62 * radius
    wide = text_width(text, size, bold=True)
    if wide > room:
        size = max(int(size * room / wide), 5)
    ink = text_mask(text, size, bold=True)
    x, y = round(center[0] - ink.shape[1] / 2), round(center[1] - ink.shape[0] / 2)
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + ink.shape[1], patch.shape[1]), min(y + ink.shape[0], patch.shape[0])
    if x0 < x1 and y0 < y1:
        dark = float(color @ np.array([0.299, 0.587, 0.114])) > 140
        tone = np.full(3, 16.0) if dark else np.full(3, 255.0)
        _blend(patch[y0:y1, x0:x1], ink[y0 - y : y1 - y, x0 - x : x1 - x], tone)


def _blend(patch: NDArray[np.float32], cover: NDArray[np.floating], color: NDArray[np.float64]) -> None:
    patch += cover[..., None].astype(np.float32) * (color.astype(np.float32) - patch)
