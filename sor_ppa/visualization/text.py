"""Lines of text in a scalable font that every installation has."""

from __future__ import annotations

import math
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_text", "fit_text", "text_width"]


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans from matplotlib (a requirement of detectron2), or Pillow's default font without it.

    The file is located without importing matplotlib, which would take longer than the drawing.
    """
    spec = find_spec("matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / "mpl-data" / "fonts" / "ttf" / name
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def text_width(text: str, size: int, *, bold: bool = False) -> int:
    """Return the width of ``text`` in pixels at a font size in pixels."""
    return math.ceil(_font(size, bold).getlength(text))


def fit_text(text: str, size: int, width: int, *, bold: bool = False) -> str:
    """Return ``text``, with its middle replaced by an ellipsis where it is wider than ``width`` pixels."""
    short, keep = text, len(text)
    while keep and text_width(short, size, bold=bold) > width:
        keep -= 1
        short = text[: keep - keep // 2] + "…" + text[len(text) - keep // 2 :]
    return short


def draw_text(
    canvas: NDArray[np.uint8],
    text: str,
    xy: tuple[float, float],
    *,
    size: int,
    color: tuple[int, int, int],
    bold: bool = False,
    centered: bool = False,
) -> None:
    """Draw one line of text into a picture, in place; parts outside the picture are cut off.

    Args:
        canvas: (H, W, 3) uint8.
        text: one line.
        xy: in pixels, the left end of the line (its center if ``centered``) and its vertical middle.
        size: font size in pixels.
        color: RGB.
        bold: use the bold font.
        centered: center the line on ``xy``.
    """
    font = _font(size, bold)
    left, top, right, bottom = font.getbbox(text)
    # The height of capitals and digits, not of this text: neighboring labels share a baseline.
    _, cap_top, _, cap_bottom = font.getbbox("H0")
    x = round(xy[0] - ((left + right) / 2 if centered else 0))
    y = round(xy[1] - (cap_top + cap_bottom) / 2)
    x0, x1 = (min(max(math.floor(x + edge), 0), canvas.shape[1]) for edge in (left, right + 1))
    y0, y1 = (min(max(math.floor(y + edge), 0), canvas.shape[0]) for edge in (top, bottom + 1))
    if x0 < x1 and y0 < y1:
        patch = Image.fromarray(canvas[y0:y1, x0:x1])
        ImageDraw.Draw(patch).text((x - x0, y - y0), text, fill=color, font=font)
        canvas[y0:y1, x0:x1] = np.asarray(patch)
