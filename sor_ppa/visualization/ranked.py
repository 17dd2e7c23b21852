"""A picture with its ranked objects: tinted masks, outlines and badges on a dimmed ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .badges import Badge, draw_badge, place_badges
from .colors import UNRANKED, rank_colors
from .text import draw_text, text_width

__all__ = ["RankStyle", "draw_ranked"]

# Left, top, width, height in pixels.
Box = tuple[int, int, int, int]

# Radius in pixels below which a figure is hard to read; thumbnails have to do with less.
MIN_RADIUS: Final = 8.0
CASING: Final = (18, 18, 22)
LEGEND_INK: Final = (235, 235, 235)


@dataclass(frozen=True)
class RankStyle:
    """How ranked objects are drawn. Lengths are fractions of the picture's geometric mean side.

    Attributes:
        tint: opacity of the rank's colour in the middle of its object, in [0, 1].
        rim: opacity of the rank's colour at the edge of its object, in [0, 1].
        glow: width over which the rim falls to the tint.
        dim: brightness of the picture around the objects, in [0, 1].
        fade: how much of its colour the picture around the objects loses, in [0, 1].
        outline: width of the outlines.
        badge: radius of the badges.
        legend: write the colours and their ranks into the lower left corner.
    """

    tint: float = 0.2
    rim: float = 0.6
    glow: float = 0.02
    dim: float = 0.58
    fade: float = 0.6
    outline: float = 0.005
    badge: float = 0.027
    legend: bool = False


def draw_ranked(
    image_rgb: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    ranks: ArrayLike,
    *,
    scores: ArrayLike | None = None,
    style: RankStyle | None = None,
) -> NDArray[np.uint8]:
    """Draw objects and the order in which the eye goes to them.

    A rank has one colour in every picture, from gold (1) to indigo; the picture around the
    objects is darker and paler, so that the order is seen before anything is read. Where objects
    overlap the more salient one lies on top. Objects without a rank get a thin grey outline.

    Args:
        image_rgb: (H, W, 3) or greyscale (H, W) uint8; left as it is.
        masks: (N, H, W) bool.
        ranks: (N,) integers, 1 = most salient, 0 = not ranked.
        scores: (N,) numbers written below the badges of ranked objects.
        style: how; the defaults of ``RankStyle`` if left out.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: sizes that do not agree, a negative rank, an image that is not uint8.
    """
    image, masks, ranks, notes = _checked(image_rgb, masks, ranks, scores)
    style = style or RankStyle()
    height, width = image.shape[:2]
    side = float(np.sqrt(height * width))
    line = max(style.outline * side, 1.0)
    colors = rank_colors(ranks)

    # From the least to the most salient; an object without a pixel cannot be shown.
    boxes = [_bounding_box(mask) for mask in masks]
    order = [int(i) for i in np.argsort(-ranks, kind="stable") if boxes[i][2]]
    ranked = [i for i in order if ranks[i] > 0]
    # Number of the object that each pixel shows, counted from 1 along `ranked`; 0 = none.
    owner = np.zeros((height, width), np.uint8 if len(ranked) < 256 else np.uint16)
    for number, i in enumerate(ranked, start=1):
        x, y, w, h = boxes[i]
        owner[y : y + h, x : x + w][masks[i, y : y + h, x : x + w]] = number

    canvas = _ground(image, style) if order else image.copy()
    if ranked:
        _tint(canvas, image, owner, colors[ranked], style, side)
    for i in order:
        if ranks[i] == 0:
            _outline(canvas, masks[i], boxes[i], UNRANKED, max(0.4 * line, 1.0))
    for i in ranked:
        _outline(canvas, masks[i], boxes[i], colors[i], line)

    _badges(canvas, masks, boxes, owner, ranked, ranks, colors, notes, style, side)
    if style.legend and ranked:
        _legend(canvas, np.unique(ranks[ranked]), max(style.badge * side, MIN_RADIUS))
    return canvas


def _badges(
    canvas: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    boxes: Sequence[Box],
    owner: NDArray[np.unsignedinteger],
    ranked: Sequence[int],
    ranks: NDArray[np.int64],
    colors: NDArray[np.uint8],
    notes: NDArray[np.float64] | None,
    style: RankStyle,
    side: float,
) -> None:
    """Place the badges, the most salient object first; draw them in the opposite order."""
    if not ranked:
        return
    regions = _badge_regions(masks, boxes, owner, ranked)
    # Many objects get smaller badges; the first ranks get larger ones.
    radius = style.badge * side * min(1.0, (12 / len(ranked)) ** 0.35)
    least = float(np.clip(0.075 * side, 5.0, MIN_RADIUS))
    radii = np.maximum(radius * (1.0 + 0.25 / ranks[ranked]), least)
    placed = place_badges(regions[::-1], canvas.shape[:2], radii[::-1].tolist(), max(0.55 * radius, least))
    shown = [(i, badge) for i, badge in zip(ranked, placed[::-1], strict=True) if badge is not None]
    ring = max(0.6 * style.outline * side, 1.0)
    for i, badge in shown:
        if badge.anchor is not None:
            _leader(canvas, badge.center, badge.anchor, colors[i], ring)
    for i, badge in shown:
        draw_badge(canvas, badge, str(ranks[i]), colors[i], min(ring, 0.15 * badge.radius))
        if notes is not None:
            _note(canvas, f"{notes[i]:.2f}", badge.center, badge.radius)


def _badge_regions(
    masks: NDArray[np.bool_],
    boxes: Sequence[Box],
    owner: NDArray[np.unsignedinteger],
    ranked: Sequence[int],
) -> list[tuple[NDArray[np.bool_], int, int]]:
    """Where the badge of each ranked object may stand: mask cropped to the box, left, top.

    Preferably what is seen of the object and holds no smaller one, so that badges of nested
    objects stand in their own rings; where that is next to nothing, what holds no smaller one;
    else the whole mask.
    """
    areas = np.array([np.count_nonzero(masks[i]) for i in ranked])
    smallest = np.zeros_like(owner)
    for n in np.argsort(-areas, kind="stable"):
        x, y, w, h = boxes[ranked[n]]
        smallest[y : y + h, x : x + w][masks[ranked[n], y : y + h, x : x + w]] = n + 1
    regions = []
    for n, i in enumerate(ranked):
        x, y, w, h = boxes[i]
        whole = masks[i, y : y + h, x : x + w]
        own = smallest[y : y + h, x : x + w] == n + 1
        seen = own & (owner[y : y + h, x : x + w] == n + 1)
        enough = 0.15 * areas[n]
        choice = next((r for r in (seen, own) if np.count_nonzero(r) > enough), whole)
        regions.append((np.ascontiguousarray(choice), x, y))
    return regions


def _checked(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], ranks: ArrayLike, scores: ArrayLike | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64] | None]:
    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))):
        raise ValueError(f"image: expected uint8 (H, W, 3) or (H, W), found {image.dtype} {image.shape}")
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    ranks = np.asarray(ranks).reshape(-1)
    if ranks.size and not np.issubdtype(ranks.dtype, np.integer):
        raise ValueError(f"ranks: expected integers, found {ranks.dtype}")
    if ranks.size and ranks.min() < 0:
        raise ValueError(f"ranks: expected 0 (not ranked) or more, found {ranks.min()}")
    masks = np.asarray(masks)
    if len(ranks) == 0 and masks.size == 0:
        masks = masks.reshape(0, *image.shape[:2])
    if masks.shape != (len(ranks), *image.shape[:2]):
        expected = (len(ranks), *image.shape[:2])
        raise ValueError(f"masks: expected shape {expected} for these ranks and image, found {masks.shape}")
    if masks.dtype != np.bool_:
        raise ValueError(f"masks: expected bool, found {masks.dtype}")
    notes = None if scores is None else np.asarray(scores, np.float64).reshape(-1)
    if notes is not None and len(notes) != len(ranks):
        raise ValueError(f"scores: expected {len(ranks)} numbers, found {len(notes)}")
    return np.ascontiguousarray(image), np.ascontiguousarray(masks), ranks.astype(np.int64), notes


def _bounding_box(mask: NDArray[np.bool_]) -> Box:
    x, y, w, h = cv2.boundingRect(mask.view(np.uint8))
    return x, y, w, h


def _ground(image: NDArray[np.uint8], style: RankStyle) -> NDArray[np.uint8]:
    """The picture, darker and paler."""
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = cv2.addWeighted(image, style.dim * (1 - style.fade), grey, style.dim * style.fade, 0)
    return np.asarray(mixed, np.uint8)


def _tint(
    canvas: NDArray[np.uint8],
    image: NDArray[np.uint8],
    owner: NDArray[np.unsignedinteger],
    colors: NDArray[np.uint8],
    style: RankStyle,
    side: float,
) -> None:
    """Lay each object of ``image`` over the canvas in its colour, strong at its edge, light inside."""
    x, y, w, h = _bounding_box(owner > 0)
    canvas, image, owner = (a[y : y + h, x : x + w] for a in (canvas, image, owner))
    # Zero on the borders between objects, so that the distance is the one to the object's own edge.
    inner = np.pad(owner > 0, 1).astype(np.uint8)
    inner[1:-1, 2:-1] &= owner[:, 1:] == owner[:, :-1]
    inner[2:-1, 1:-1] &= owner[1:] == owner[:-1]
    distance = cv2.distanceTransform(inner, cv2.DIST_L2, 3)[1:-1, 1:-1]
    opacity = style.tint + (style.rim - style.tint) * np.exp(distance * (-1.0 / max(style.glow * side, 1.0)))
    weight = np.rint(opacity * 255).astype(np.uint8)[..., None]
    palette = np.concatenate([np.zeros((1, 3), np.uint8), colors])[owner]
    # cv2.multiply rounds in one pass where numpy would make four copies.
    weight = cv2.merge([weight, weight, weight])
    tinted = cv2.add(
        cv2.multiply(image, 255 - weight, scale=1 / 255), cv2.multiply(palette, weight, scale=1 / 255)
    )
    cv2.copyTo(tinted, (owner > 0).view(np.uint8), canvas)


def _outline(
    canvas: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    box: Box,
    color: NDArray[np.uint8],
    line: float,
) -> None:
    """Draw the outlines of a mask, smoothed over about one line width, on a thin dark casing."""
    x, y, w, h = box
    crop = np.ascontiguousarray(mask[y : y + h, x : x + w]).view(np.uint8)
    contours, _ = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    # Specks and pinholes smaller than the line would only be blots; the largest part always shows.
    areas = np.array([cv2.contourArea(c) for c in contours])
    contours = [
        c for c, area in zip(contours, areas, strict=True) if area > 5 * line**2 or area == areas.max()
    ]
    # cv2 takes sixteenths of a pixel.
    paths = [np.rint(_smooth(c[:, 0, :].astype(np.float64), line) * 16).astype(np.int32) for c in contours]
    width = max(round(line), 1)
    casing = max(round(1.7 * line), width + 2) if line >= 1.5 else 0
    if casing:
        cv2.polylines(canvas, paths, True, CASING, casing, cv2.LINE_AA, 4)
    cv2.polylines(canvas, paths, True, tuple(int(v) for v in color), width, cv2.LINE_AA, 4)


def _smooth(points: NDArray[np.float64], line: float) -> NDArray[np.float64]:
    """Closed path (P, 2) with the stair steps of its pixels averaged away."""
    reach = min(max(round(line), 1), (len(points) - 1) // 6)
    if reach < 1:
        return points
    window = 2 * reach + 1
    padded = np.concatenate([points[-reach - 1 :], points, points[:reach]])
    total = padded.cumsum(axis=0)
    mean = (total[window:] - total[:-window]) / window
    # One point in every `reach` still describes what the average left.
    return mean[:: max(reach // 2, 1)]


def _leader(
    canvas: NDArray[np.uint8],
    start: tuple[float, float],
    end: tuple[float, float],
    color: NDArray[np.uint8],
    line: float,
) -> None:
    """A line from a badge to the object that it stands for."""
    ends = [tuple(round(v * 16) for v in point) for point in (start, end)]
    width = max(round(line), 1)
    if line >= 1.5:
        cv2.line(canvas, ends[0], ends[1], CASING, width + 2, cv2.LINE_AA, 4)
    cv2.line(canvas, ends[0], ends[1], tuple(int(v) for v in color), width, cv2.LINE_AA, 4)


def _note(canvas: NDArray[np.uint8], text: str, center: tuple[float, float], radius: float) -> None:
    """A small dark plate with a number, centred below a badge."""
    size = max(round(0.8 * radius), 7)
    wide = text_width(text, size)
    x0, y0 = round(center[0] - wide / 2 - 0.35 * size), round(center[1] + radius + 0.3 * size)
    x1, y1 = x0 + wide + round(0.7 * size), y0 + round(1.35 * size)
    height, width = canvas.shape[:2]
    plate = canvas[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    plate[:] = (plate * 0.3).astype(np.uint8)
    draw_text(canvas, text, (x0 + round(0.35 * size), (y0 + y1) // 2), size=size, color=(255, 255, 255))


def _legend(canvas: NDArray[np.uint8], ranks: NDArray[np.int64], radius: float) -> None:
    """A plate in the lower left corner: the colours of the ranks shown, the first eight at most."""
    height, width = canvas.shape[:2]
    radius = min(0.8 * radius, 0.1 * height)
    size = max(round(1.1 * radius), 6)
    ends = ("most salient", "least")
    pad, step = round(0.8 * radius), 2.4 * radius
    ranks = ranks[:8]
    long = text_width(ends[0], size) + text_width(ends[1], size) + round(step * len(ranks)) + 4 * pad
    if long > width - 2 * pad:
        return
    tall = round(3.2 * radius)
    x, middle = pad, height - pad - tall // 2
    plate = canvas[middle - tall // 2 : middle - tall // 2 + tall, x : x + long]
    plate[:] = (plate * 0.25).astype(np.uint8)
    x += pad
    draw_text(canvas, ends[0], (x, middle), size=size, color=LEGEND_INK)
    x += text_width(ends[0], size) + pad
    for rank, color in zip(ranks, rank_colors(ranks), strict=True):
        draw_badge(canvas, Badge((x + step / 2, middle), radius), str(rank), color, max(0.12 * radius, 1.0))
        x += round(step)
    draw_text(canvas, ends[1], (x + pad, middle), size=size, color=LEGEND_INK)
