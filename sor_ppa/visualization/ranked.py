"""A picture with its ranked objects: tinted masks, outlines and badges on a dimmed background."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from .badges import CASING, Badge, draw_badge, place_badges
from .colors import rank_colors
from .text import draw_text, text_width

__all__ = ["EVERYTHING", "RankStyle", "draw_ranked"]

# Left, top, width, height in pixels.
Box = Sequence[int]

# Options of RankStyle that draw every object.
EVERYTHING: dict[str, Any] = {"duplicate": 2.0, "most": 1_000_000, "confident": 0.0}

# Radius in pixels below which a number is hard to read; badges of thumbnails may be smaller.
MIN_RADIUS = 8.0


@dataclass(frozen=True)
class RankStyle:
    """How ranked objects are drawn. Lengths are fractions of the square root of the picture's area.

    Attributes:
        tint: opacity of the rank's color in the middle of its object, in [0, 1].
        rim: opacity of the rank's color at the edge of its object, in [0, 1].
        glow: width over which the opacity falls from ``rim`` to ``tint``.
        dim: brightness of the picture around the objects, in [0, 1].
        fade: share of its color that the picture around the objects loses, in [0, 1].
        outline: width of the outlines.
        badge: radius of the badges.
        legend: draw the colors and their ranks into the lower left corner.
        unranked: outline objects without a rank; None: only if no object has a rank.
        duplicate: leave out an object whose IoU with a more salient one is at least this, and one that lies
            in a more salient one and fills a third of it; above 1: none.
        confident: in ``RankedImage.draw``, leave out objects whose confidence is below this share of the
            highest one.
        most: in ``RankedImage.draw``, how many objects are drawn, at most.
    """

    tint: float = 0.2
    rim: float = 0.6
    glow: float = 0.02
    dim: float = 0.58
    fade: float = 0.6
    outline: float = 0.005
    badge: float = 0.027
    legend: bool = False
    unranked: bool | None = None
    duplicate: float = 0.8
    confident: float = 0.5
    most: int = 10


def draw_ranked(
    image_rgb: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    ranks: ArrayLike,
    *,
    scores: ArrayLike | None = None,
    style: RankStyle | None = None,
) -> NDArray[np.uint8]:
    """Draw objects and the order of their saliency.

    A rank has the same color in every picture, from gold (1) to indigo. The picture around the objects is
    darker and paler. Where objects overlap, the more salient one is on top.

    Args:
        image_rgb: (H, W, 3) or grayscale (H, W) uint8; it is not changed.
        masks: (N, H, W) bool.
        ranks: (N,) integers, 1 = most salient, 0 = not ranked.
        scores: (N,) numbers to draw below the badges of ranked objects.
        style: how to draw; default: ``RankStyle()``.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: shapes or types that do not match.
    """
    image, masks, ranks, notes = _checked(image_rgb, masks, ranks, scores)
    style = style or RankStyle()
    height, width = image.shape[:2]
    side = float(np.sqrt(height * width))
    line = max(style.outline * side, 1.0)
    colors = rank_colors(ranks)

    boxes: list[Box] = [cv2.boundingRect(mask.view(np.uint8)) for mask in masks]
    order = _drawing_order(masks, ranks, style)
    ranked = [i for i in order if ranks[i] > 0]
    # The object shown at each pixel, counted from 1 along `ranked`; 0 = none.
    owner = np.zeros((height, width), np.uint16)
    for number, i in enumerate(ranked, start=1):
        _crop(owner, boxes[i])[_crop(masks[i], boxes[i])] = number

    canvas = _background(image, style) if order else image.copy()
    if ranked:
        _tint(canvas, image, owner, colors[ranked], style, side)
    for i in order:
        _outline(canvas, masks[i], boxes[i], colors[i], line if ranks[i] else max(0.4 * line, 1.0))
    if not ranked:
        return canvas

    # Many objects get smaller badges; the first ranks get larger ones.
    radius = style.badge * side * min(1.0, (12 / len(ranked)) ** 0.35)
    least = float(np.clip(0.075 * side, 5.0, MIN_RADIUS))
    radii = np.maximum(radius * (1.0 + 0.25 / ranks[ranked]), least)
    regions = _badge_regions(masks, boxes, owner, ranked)
    # The most salient object chooses its place first; its badge is drawn last.
    badges = place_badges(regions[::-1], (height, width), radii[::-1].tolist(), max(0.55 * radius, least))[
        ::-1
    ]
    shown = [(i, badge) for i, badge in zip(ranked, badges, strict=True) if badge is not None]
    if style.legend:
        _legend(canvas, np.unique(ranks[ranked]), max(style.badge * side, MIN_RADIUS))
    ring = max(0.6 * style.outline * side, 1.0)
    for i, badge in shown:
        if badge.anchor is not None:
            _polyline(canvas, [np.array([badge.center, badge.anchor])], colors[i], ring, closed=False)
    for i, badge in shown:
        draw_badge(canvas, badge, str(ranks[i]), colors[i], min(ring, 0.15 * badge.radius))
        if notes is not None:
            _note(canvas, f"{notes[i]:.2f}", badge)
    return canvas


def _checked(
    image: NDArray[np.uint8], masks: NDArray[np.bool_], ranks: ArrayLike, scores: ArrayLike | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64] | None]:
    image, masks, ranks = np.asarray(image), np.asarray(masks), np.asarray(ranks).reshape(-1)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(f"image: expected uint8 (H, W, 3) or (H, W), found {image.dtype} {image.shape}")
    if ranks.size and (ranks.dtype.kind not in "iu" or ranks.min() < 0):
        raise ValueError(f"ranks: expected integers of 0 or more, found {ranks.min()} ({ranks.dtype})")
    expected = (len(ranks), *image.shape[:2])
    if len(ranks) == 0 and masks.size == 0:
        masks = np.zeros(expected, np.bool_)
    if masks.shape != expected or masks.dtype != np.bool_:
        raise ValueError(f"masks: expected bool {expected}, found {masks.dtype} {masks.shape}")
    notes = None if scores is None else np.asarray(scores, np.float64).reshape(-1)
    if notes is not None and len(notes) != len(ranks):
        raise ValueError(f"scores: expected {len(ranks)} numbers, found {len(notes)}")
    image = np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    return image, np.ascontiguousarray(masks), ranks.astype(np.int64), notes


def _drawing_order(masks: NDArray[np.bool_], ranks: NDArray[np.int64], style: RankStyle) -> list[int]:
    """Return the objects to draw: those without a rank first, then from the least to the most salient."""
    # Overlaps are measured on every `step`-th pixel; that is exact enough to recognize a duplicate.
    step = max(*masks.shape[1:], 256) // 256
    small = masks[:, ::step, ::step].astype(np.float32)
    both = np.einsum("ihw,jhw->ij", small, small, optimize=True)
    areas = np.diag(both)
    iou = both / np.maximum(areas[:, None] + areas[None] - both, 1)
    nested = (both >= 0.9 * areas[:, None]) & (3 * areas[:, None] >= areas) & (style.duplicate <= 1)
    hidden = (iou >= style.duplicate) | nested
    unranked = not ranks.any() if style.unranked is None else style.unranked
    kept: list[int] = []
    for i in np.argsort(np.where(ranks > 0, ranks, np.iinfo(np.int64).max), kind="stable"):
        wanted = ranks[i] > 0 or unranked
        if wanted and masks[i].any() and not hidden[i, kept].any():
            kept.append(int(i))
    return kept[::-1]


def _crop(array: NDArray, box: Box) -> NDArray:
    x, y, width, height = box
    return array[y : y + height, x : x + width]


def _badge_regions(
    masks: NDArray[np.bool_], boxes: Sequence[Box], owner: NDArray[np.uint16], ranked: Sequence[int]
) -> list[tuple[NDArray[np.bool_], int, int]]:
    """Return where the badge of each ranked object may be placed: mask cropped to the box, left, top.

    The first of these that is large enough: the visible part of the object without smaller objects (so that
    badges of nested objects are placed in their own rings), the object without smaller ones, the whole mask.
    """
    areas = np.array([np.count_nonzero(masks[i]) for i in ranked])
    smallest = np.zeros_like(owner)
    for n in np.argsort(-areas, kind="stable"):
        box = boxes[ranked[n]]
        _crop(smallest, box)[_crop(masks[ranked[n]], box)] = n + 1
    regions = []
    for n, i in enumerate(ranked):
        own = _crop(smallest, boxes[i]) == n + 1
        visible = own & (_crop(owner, boxes[i]) == n + 1)
        large = [part for part in (visible, own) if np.count_nonzero(part) > 0.15 * areas[n]]
        regions.append(((large or [_crop(masks[i], boxes[i])])[0], boxes[i][0], boxes[i][1]))
    return regions


def _background(image: NDArray[np.uint8], style: RankStyle) -> NDArray[np.uint8]:
    """Return the picture, darker and paler."""
    gray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    mixed = cv2.addWeighted(image, style.dim * (1 - style.fade), gray, style.dim * style.fade, 0)
    return np.asarray(mixed, np.uint8)


def _tint(
    canvas: NDArray[np.uint8],
    image: NDArray[np.uint8],
    owner: NDArray[np.uint16],
    colors: NDArray[np.uint8],
    style: RankStyle,
    side: float,
) -> None:
    """Draw each object of ``image`` in its color, strong at its edge and light inside, in place."""
    box = cv2.boundingRect((owner > 0).view(np.uint8))
    canvas, image, owner = (_crop(array, box) for array in (canvas, image, owner))
    # Zero on borders between objects, so that distances are measured to the object's own edge.
    inner = np.pad(owner > 0, 1).astype(np.uint8)
    inner[1:-1, 2:-1] &= owner[:, 1:] == owner[:, :-1]
    inner[2:-1, 1:-1] &= owner[1:] == owner[:-1]
    distance = cv2.distanceTransform(inner, cv2.DIST_L2, 3)[1:-1, 1:-1]
    opacity = style.tint + (style.rim - style.tint) * np.exp(distance * (-1.0 / max(style.glow * side, 1.0)))
    weight = cv2.cvtColor(np.rint(opacity * 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    palette = np.concatenate([np.zeros((1, 3), np.uint8), colors])[owner]
    # cv2.multiply rounds in one pass; numpy would make four copies.
    tinted = cv2.add(
        cv2.multiply(image, 255 - weight, scale=1 / 255), cv2.multiply(palette, weight, scale=1 / 255)
    )
    cv2.copyTo(tinted, (owner > 0).view(np.uint8), canvas)


def _outline(
    canvas: NDArray[np.uint8], mask: NDArray[np.bool_], box: Box, color: NDArray[np.uint8], line: float
) -> None:
    """Draw the contours of a mask, smoothed over about one line width."""
    crop = np.ascontiguousarray(_crop(mask, box)).view(np.uint8)
    contours, _ = cv2.findContours(crop, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=box[:2])
    areas = [cv2.contourArea(contour) for contour in contours]
    # Skip specks and pinholes smaller than the line, but always keep the largest part.
    kept = [c for c, area in zip(contours, areas, strict=True) if area > 5 * line**2 or area == max(areas)]
    paths = [_smooth(contour[:, 0].astype(np.float64), line) for contour in kept]
    _polyline(canvas, paths, color, line)


def _smooth(points: NDArray[np.float64], line: float) -> NDArray[np.float64]:
    """Average the stair steps out of a closed path (P, 2)."""
    reach = min(max(round(line), 1), (len(points) - 1) // 6)
    if reach < 1:
        return points
    window = 2 * reach + 1
    total = np.concatenate([points[-reach - 1 :], points, points[:reach]]).cumsum(axis=0)
    mean = (total[window:] - total[:-window]) / window
    return mean[:: max(reach // 2, 1)]


def _polyline(
    canvas: NDArray[np.uint8],
    paths: Sequence[NDArray[np.float64]],
    color: NDArray[np.uint8],
    line: float,
    closed: bool = True,
) -> None:
    """Draw paths (P, 2) on a thin dark casing."""
    points = [np.rint(path * 16).astype(np.int32) for path in paths]  # OpenCV takes sixteenths of a pixel
    width = max(round(line), 1)
    if line >= 1.5:
        cv2.polylines(canvas, points, closed, CASING, max(round(1.7 * line), width + 2), cv2.LINE_AA, 4)
    cv2.polylines(canvas, points, closed, color.tolist(), width, cv2.LINE_AA, 4)


def _plate(canvas: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> None:
    """Darken a rectangle on which text is drawn."""
    plate = canvas[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    plate[:] = plate // 4


def _note(canvas: NDArray[np.uint8], text: str, badge: Badge) -> None:
    """Draw a small dark plate with a number, centered below a badge."""
    size = max(round(0.8 * badge.radius), 7)
    x, y = badge.center[0], badge.center[1] + badge.radius + size
    half = text_width(text, size) / 2 + 0.35 * size
    _plate(canvas, round(x - half), round(y - 0.7 * size), round(x + half), round(y + 0.7 * size))
    draw_text(canvas, text, (x, y), size=size, color=(255, 255, 255), centered=True)


def _legend(canvas: NDArray[np.uint8], ranks: NDArray[np.int64], radius: float) -> None:
    """Draw a plate in the lower left corner with the colors of the ranks, in one line."""
    height, width = canvas.shape[:2]
    radius = min(0.8 * radius, 0.1 * height)
    size, pad, color = max(round(1.1 * radius), 6), round(0.8 * radius), (235, 235, 235)
    ends, space = ["most salient", "least"], width - 6 * pad
    # Badges shrink down to half their size before the words are left out, and further without them.
    if space - sum(text_width(text, size) for text in ends) < 1.2 * radius * len(ranks):
        ends = ["", ""]
    space -= sum(text_width(text, size) for text in ends)
    radius = min(radius, space / (2.4 * len(ranks)))
    step = 2.4 * radius
    lengths = [text_width(text, size) for text in ends]
    middle, right = height - 3 * pad, round(5 * pad + sum(lengths) + step * len(ranks))
    _plate(canvas, pad, middle - 2 * pad, right, middle + 2 * pad)
    draw_text(canvas, ends[0], (2 * pad, middle), size=size, color=color)
    x = 3 * pad + lengths[0] + step / 2
    for rank, fill in zip(ranks, rank_colors(ranks), strict=True):
        draw_badge(canvas, Badge((x, middle), radius), str(rank), fill, max(0.12 * radius, 1.0))
        x += step
    draw_text(canvas, ends[1], (x - step / 2 + pad, middle), size=size, color=color)
