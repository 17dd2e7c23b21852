"""Pictures of the pre-training: both views, their shared regions, and the predicted regions."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ..atomic import atomic_write

GAP = 8  # pixels between views
READABLE = 256  # small views are enlarged to at least this shorter side, in pixels
LABEL = 14  # pixels of a number
DASH = 7  # pixels of a dash and of the space after it
BACKGROUND = (32, 32, 32)


def _colors(count: int) -> list[tuple[int, ...]]:
    """Return white for the intersection, then colors of one brightness, far apart for neighbors."""
    rgb = [colorsys.hsv_to_rgb((0.61803 * i) % 1, 0.75, 1.0) for i in range(count - 1)]
    return [(255, 255, 255), *(tuple(round(255 * channel) for channel in color) for color in rgb)]


def _dashed(draw: ImageDraw.ImageDraw, box: Sequence[float], color: tuple[int, ...]) -> None:
    x1, y1, x2, y2 = box
    for low, high, lines, upright in ((x1, x2, (y1, y2), False), (y1, y2, (x1, x2), True)):
        for step in range(int(max(high - low, 0) / (2 * DASH)) + 1):
            start = low + 2 * DASH * step
            end = min(start + DASH, high)
            for at in lines if start < high else ():
                draw.line([(at, start), (at, end)] if upright else [(start, at), (end, at)], color, 2)


def draw_pair(views: Any, regions: Any, predicted: Any) -> Image.Image:
    """Draw view 1 on the left and view 2 on the right.

    Args:
        views: (2, 3, H, W) uint8 tensor.
        regions: (2, P, 4) corners in pixels, row p one region: drawn solid, with its number.
        predicted: (2, P, 4) boxes predicted by the queries of the other view: drawn dashed.

    Returns:
        an RGB picture, 2 W + 8 pixels wide; small views are enlarged by a whole factor.
    """
    height, width = views.shape[-2:]
    scale = max(1, -(-READABLE // max(min(height, width), READABLE // 8)))
    height, width = height * scale, width * scale
    regions, predicted = regions * scale, predicted * scale
    canvas = Image.new("RGB", (2 * width + GAP, height), BACKGROUND)
    for index in (0, 1):
        view = Image.fromarray(views[index].permute(1, 2, 0).cpu().numpy()).resize((width, height))
        draw = ImageDraw.Draw(view)
        for number, color in enumerate(_colors(regions.shape[1])):
            x1, y1, x2, y2 = regions[index][number].tolist()
            draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=color, width=2)
            _dashed(draw, predicted[index][number].tolist(), color)
            text = str(number)
            # regions often share a corner, so the numbers are placed side by side
            place = (max(x1, min(x1 + LABEL * (number % 5), x2 - LABEL)) + 3, y1 + 2)
            left, top, right, bottom = draw.textbbox(place, text)
            draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=(0, 0, 0))
            draw.text(place, text, fill=color)
        canvas.paste(view, (index * (width + GAP), 0))
    return canvas


def draw_views(samples: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> Image.Image:
    """Draw one row per image.

    Args:
        samples: of :class:`TwoViewMapper`, at least one.
        found: of :meth:`SiameseDETR.look`, one per sample.
    """
    rows = [draw_pair(s["views"], f["regions"], f["boxes"]) for s, f in zip(samples, found, strict=True)]
    height = sum(r.height + GAP for r in rows) - GAP
    canvas = Image.new("RGB", (max(r.width for r in rows), height), BACKGROUND)
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + GAP
    return canvas


def save_picture(path: str | os.PathLike[str], picture: Image.Image) -> None:
    """Write a PNG file atomically, and its folder if missing."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        picture.save(file, format="PNG")
