"""Pictures of the pre-training: both views, the regions they share, and where they are predicted."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

__all__ = ["draw_pair", "draw_views", "save_picture"]

GAP = 8  # pixels between views
READABLE = 256  # pixels of the shorter side up to which small views are enlarged
LABEL = 14  # pixels of a number
DASH = 7  # pixels of a dash, and of the space after it


def _colors(count: int) -> list[tuple[int, int, int]]:
    """Colours of one brightness, far apart for neighbours; the first, of the intersection, is white."""
    hues = [(0.61803 * i) % 1 for i in range(count - 1)]
    rgb = [colorsys.hsv_to_rgb(h, 0.75, 1.0) for h in hues]
    return [(255, 255, 255), *((round(255 * r), round(255 * g), round(255 * b)) for r, g, b in rgb)]


def _dashed(draw: ImageDraw.ImageDraw, box: Sequence[float], color: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = box
    for a, b, fixed, upright in (
        (x1, x2, y1, False),
        (x1, x2, y2, False),
        (y1, y2, x1, True),
        (y1, y2, x2, True),
    ):
        start = a
        while start < b:
            end = min(start + DASH, b)
            line = [(fixed, start), (fixed, end)] if upright else [(start, fixed), (end, fixed)]
            draw.line(line, fill=color, width=2)
            start += 2 * DASH


def draw_pair(views: Any, regions: Any, predicted: Any) -> Image.Image:
    """View 1 on the left, view 2 on the right.

    Args:
        views: (2, 3, H, W) uint8 tensor.
        regions: (2, P, 4) corners in pixels, row p one region: drawn solid, with its number.
        predicted: (2, P, 4) where the queries of the other view's regions are seen: dashed.

    Returns:
        an RGB picture of 2 W + 8 pixels width; W is a multiple of the view's width if that is small.
    """
    height, width = views.shape[-2:]
    scale = max(1, -(-READABLE // max(min(height, width), READABLE // 8)))
    height, width = height * scale, width * scale
    regions, predicted = regions * scale, predicted * scale
    canvas = Image.new("RGB", (2 * width + GAP, height), (32, 32, 32))
    colors = _colors(regions.shape[1])
    for index in (0, 1):
        view = Image.fromarray(views[index].permute(1, 2, 0).cpu().numpy()).resize((width, height))
        draw = ImageDraw.Draw(view)
        for number, color in enumerate(colors):
            x1, y1, x2, y2 = regions[index][number].tolist()
            draw.rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=color, width=2)
            _dashed(draw, predicted[index][number].tolist(), color)
            text = str(number)
            place = (max(x1, min(x1 + LABEL * (number % 5), x2 - LABEL)) + 3, y1 + 2)  # many share a corner
            left, top, right, bottom = draw.textbbox(place, text)
            draw.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill=(0, 0, 0))
            draw.text(place, text, fill=color)
        canvas.paste(view, (index * (width + GAP), 0))
    return canvas


def draw_views(samples: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> Image.Image:
    """One row an image.

    Args:
        samples: of :class:`TwoViewMapper`.
        found: of :meth:`SiameseDETR.look`, one a sample.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("draw_views: found no sample, expected at least one")
    rows = [draw_pair(s["views"], f["regions"], f["boxes"]) for s, f in zip(samples, found, strict=True)]
    canvas = Image.new(
        "RGB", (max(r.width for r in rows), sum(r.height + GAP for r in rows) - GAP), (32, 32, 32)
    )
    top = 0
    for row in rows:
        canvas.paste(row, (0, top))
        top += row.height + GAP
    return canvas


def save_picture(path: str | os.PathLike[str], picture: Image.Image) -> None:
    """Write a picture, making its folder if need be; a half-written file is never left behind."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.part")
    picture.save(partial, format="PNG")
    os.replace(partial, target)
