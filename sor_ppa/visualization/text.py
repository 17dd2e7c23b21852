"""Text as an anti-aliased coverage mask, in a scalable font that every installation has."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_text", "fit_text", "text_mask", "text_width"]

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@lru_cache(maxsize=64)
def _font(size: int, bold: bool) -> Font:
    """DejaVu Sans out of matplotlib (which detectron2 requires); Pillow's own font where it is absent.

    The file is found without importing matplotlib, which would take longer than the drawing.
    """
    spec = find_spec("matplotlib")
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / "mpl-data" / "fonts" / "ttf" / name
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def text_width(text: str, size: int, *, bold: bool = False) -> int:
    """Width of ``text`` in pixels at a font size in pixels."""
    return int(np.ceil(_font(size, bold).getlength(text)))


def text_mask(text: str, size: int, *, bold: bool = False) -> NDArray[np.float32]:
    """Coverage of the inked rectangle of ``text``.

    Args:
        text: one line.
        size: font size in pixels.
        bold: use the bold cut.

    Returns:
        (h, w) float32 in [0, 1], cropped to the ink (read-only); (0, 0) where nothing is inked.
    """
    return _ink(text, size, bold)[0]


@lru_cache(maxsize=512)
def _ink(text: str, size: int, bold: bool) -> tuple[NDArray[np.float32], int, int]:
    """Coverage of the ink, and the ink's left and top from the pen's start."""
    font = _font(size, bold)
    left, top, right, bottom = font.getbbox(text)
    x, y = int(np.floor(left)), int(np.floor(top))
    canvas = Image.new("L", (max(int(np.ceil(right)) - x, 1), max(int(np.ceil(bottom)) - y, 1)))
    ImageDraw.Draw(canvas).text((-x, -y), text, fill=255, font=font)
    box = canvas.getbbox()
    if box is None:
        return np.zeros((0, 0), np.float32), 0, 0
    mask = np.asarray(canvas.crop(box), np.float32) / 255.0
    mask.flags.writeable = False
    return mask, x + box[0], y + box[1]


def fit_text(text: str, size: int, width: int, *, bold: bool = False) -> str:
    """``text``, shortened in its middle by an ellipsis until it is at most ``width`` pixels wide."""
    if text_width(text, size, bold=bold) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        keep = (low + high + 1) // 2
        if text_width(_shorten(text, keep), size, bold=bold) <= width:
            low = keep
        else:
            high = keep - 1
    return _shorten(text, low)


def _shorten(text: str, keep: int) -> str:
    tail = keep // 2
    return text[: keep - tail] + "…" + (text[len(text) - tail :] if tail else "")


def draw_text(
    canvas: NDArray[np.uint8],
    text: str,
    xy: tuple[int, int],
    *,
    size: int,
    color: tuple[int, int, int],
    bold: bool = False,
) -> None:
    """Write one line of text into a picture, in place; what lies outside the picture is left out.

    Args:
        canvas: (H, W, 3) uint8.
        text: one line.
        xy: left end of the line, and its vertical middle (of the font's ascent), in pixels.
        size: font size in pixels.
        color: RGB.
        bold: use the bold cut.
    """
    font = _font(size, bold)
    # The box of capitals and figures, not of this text, so that neighbouring labels share a base line.
    _, cap_top, _, cap_bottom = font.getbbox("H0")
    mask, left, top = _ink(text, size, bold)
    if mask.size == 0:
        return
    x = xy[0] + left
    y = round(xy[1] - (cap_top + cap_bottom) / 2) + top
    height, width = canvas.shape[:2]
    x0, y0 = max(x, 0), max(y, 0)
    x1, y1 = min(x + mask.shape[1], width), min(y + mask.shape[0], height)
    if x0 >= x1 or y0 >= y1:
        return
    cover = mask[y0 - y : y1 - y, x0 - x : x1 - x, None]
    patch = canvas[y0:y1, x0:x1]
    patch[:] = np.rint(patch * (1.0 - cover) + np.asarray(color, np.float32) * cover)
