"""A contact sheet: pictures in rows under headings."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from .text import draw_text, fit_text

__all__ = ["contact_sheet"]

_PAPER = (250, 250, 248)
_CELL = (236, 236, 233)
_INK = (28, 30, 34)
_PALE_INK = (112, 116, 122)


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    titles: Sequence[str],
    *,
    row_labels: Sequence[str] | None = None,
    width: int = 1440,
) -> NDArray[np.uint8]:
    """Arrange pictures in rows, each column under its heading, each row under its label.

    Args:
        rows: pictures, (H, W, 3) RGB or (H, W) gray uint8, of any size; a row may be shorter than ``titles``.
        titles: headings of the columns, such as input, truth, prediction.
        row_labels: a line above each row; long ones are shortened in the middle.
        width: of the sheet in pixels.

    Returns:
        (height, width, 3) uint8 RGB. All columns have the same width; a row is as tall as its tallest picture
        at that width, but at most twice the width of a column.

    Raises:
        ValueError: a row or labels that do not match, or a width too small for the columns.
    """
    if not titles or max(map(len, rows), default=0) > len(titles):
        raise ValueError(f"titles: expected a heading for every column, found {len(titles)}")
    labels = [""] * len(rows) if row_labels is None else row_labels
    if len(labels) != len(rows):
        raise ValueError(f"row_labels: expected {len(rows)} (one per row), found {len(labels)}")
    margin, gap = max(round(0.022 * width), 4), max(round(0.01 * width), 2)
    cell = (width - 2 * margin - gap * (len(titles) - 1)) // len(titles)
    if cell < 8:
        expected = f"at least {16 * len(titles)} for {len(titles)} columns"
        raise ValueError(f"width: expected {expected}, found {width}")
    size = max(round(min(0.0145 * width, 0.06 * cell)), 9)
    title_size, label_size = round(1.15 * size), round(0.88 * size)

    lefts = [margin + i * (cell + gap) for i in range(len(titles))]
    heading = _paper(margin + round(1.9 * title_size), width)
    for title, left in zip(titles, lefts, strict=True):
        text = fit_text(title, title_size, cell, bold=True)
        middle = margin + round(0.6 * title_size)
        draw_text(heading, text, (left, middle), size=title_size, color=_INK, bold=True)
    bands = [heading]
    for row, label in zip(rows, labels, strict=True):
        if label:
            bands.append(_paper(round(1.9 * label_size), width))
            text = fit_text(label, label_size, width - 2 * margin)
            draw_text(bands[-1], text, (margin, round(0.8 * label_size)), size=label_size, color=_PALE_INK)
        tall = max((max(round(p.shape[0] * cell / p.shape[1]), 1) for p in row), default=0)
        band = _paper(min(tall, 2 * cell) + gap, width)
        for picture, left in zip(row, lefts, strict=False):
            _fill(band[: len(band) - gap, left : left + cell], picture)
        bands.append(band)
    bands.append(_paper(margin - gap, width))
    return np.concatenate(bands)


def _paper(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((max(height, 0), width, 3), _PAPER, np.uint8)


def _fill(cell: NDArray[np.uint8], picture: NDArray[np.uint8]) -> None:
    """Draw a picture into a cell, as large as it fits, centered."""
    cell[:] = _CELL
    (height, width), (rows, columns) = cell.shape[:2], picture.shape[:2]
    scale = min(width / columns, height / rows)
    size = (min(max(round(columns * scale), 1), width), min(max(round(rows * scale), 1), height))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted = np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=method))
    y, x = (height - size[1]) // 2, (width - size[0]) // 2
    cell[y : y + size[1], x : x + size[0]] = fitted[:, :, None] if fitted.ndim == 2 else fitted
