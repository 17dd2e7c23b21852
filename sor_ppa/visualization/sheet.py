"""A contact sheet: pictures in rows under headings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from .text import draw_text, fit_text

__all__ = ["contact_sheet"]

_PAPER: Final = (250, 250, 248)
_CELL: Final = (236, 236, 233)
_INK: Final = (28, 30, 34)
_PALE_INK: Final = (112, 116, 122)


@dataclass(frozen=True)
class _Layout:
    """Lengths in pixels, all from the width of the sheet."""

    margin: int
    gap: int
    title: int
    label: int
    cell: int

    @classmethod
    def of(cls, width: int, columns: int) -> _Layout:
        margin, gap = max(round(0.022 * width), 4), max(round(0.01 * width), 2)
        cell = (width - 2 * margin - gap * (columns - 1)) // columns
        type_size = max(round(min(0.0145 * width, 0.06 * cell)), 9)
        return cls(margin, gap, round(1.15 * type_size), round(0.88 * type_size), cell)


def contact_sheet(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    titles: Sequence[str],
    *,
    row_labels: Sequence[str] | None = None,
    width: int = 1440,
) -> NDArray[np.uint8]:
    """Lay out pictures in rows, each column under its heading, each row under its label.

    Args:
        rows: pictures, (H, W, 3) RGB or (H, W) grey uint8, of any size; a row may be shorter
            than the headings.
        titles: headings of the columns, such as input, truth, prediction.
        row_labels: a line above each row; too long ones are shortened in the middle.
        width: of the sheet in pixels.

    Returns:
        (height, width, 3) uint8 RGB; every column is equally wide, a row as tall as its tallest
        picture at that width.

    Raises:
        ValueError: no headings, a row longer than the headings, labels that do not match the
            rows, a picture that is none, a width too small for the columns.
    """
    _check(rows, titles, row_labels)
    layout = _Layout.of(width, len(titles))
    if layout.cell < 8:
        raise ValueError(
            f"width: expected at least {16 * len(titles)} for {len(titles)} columns, found {width}"
        )
    lefts = [layout.margin + i * (layout.cell + layout.gap) for i in range(len(titles))]
    bands = [_heading(titles, lefts, layout, width)]
    for i, row in enumerate(rows):
        label = "" if row_labels is None else row_labels[i]
        bands.append(_row(row, label, lefts, layout, width))
    bands.append(_paper(layout.margin - layout.gap, width))
    return np.concatenate(bands)


def _check(
    rows: Sequence[Sequence[NDArray[np.uint8]]], titles: Sequence[str], row_labels: Sequence[str] | None
) -> None:
    if not len(titles):
        raise ValueError("titles: expected at least one heading, found none")
    if row_labels is not None and len(row_labels) != len(rows):
        raise ValueError(f"row_labels: expected {len(rows)} (one a row), found {len(row_labels)}")
    for i, row in enumerate(rows):
        if len(row) > len(titles):
            raise ValueError(f"rows[{i}]: expected at most {len(titles)} pictures, found {len(row)}")
        for j, picture in enumerate(row):
            grey_or_rgb = picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)
            if picture.dtype != np.uint8 or not grey_or_rgb or not picture.size:
                found = f"{picture.dtype} {picture.shape}"
                raise ValueError(f"rows[{i}][{j}]: expected uint8 (H, W, 3) or (H, W), found {found}")


def _paper(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((max(height, 0), width, 3), _PAPER, np.uint8)


def _heading(titles: Sequence[str], lefts: Sequence[int], layout: _Layout, width: int) -> NDArray[np.uint8]:
    band = _paper(layout.margin + round(1.9 * layout.title), width)
    middle = layout.margin + round(0.6 * layout.title)
    for title, left in zip(titles, lefts, strict=True):
        text = fit_text(title, layout.title, layout.cell, bold=True)
        draw_text(band, text, (left, middle), size=layout.title, color=_INK, bold=True)
    return band


def _row(
    row: Sequence[NDArray[np.uint8]], label: str, lefts: Sequence[int], layout: _Layout, width: int
) -> NDArray[np.uint8]:
    tall = max((max(round(p.shape[0] * layout.cell / p.shape[1]), 1) for p in row), default=0)
    # No picture makes a row taller than twice its width; a taller one is shown narrower.
    tall = min(tall, 2 * layout.cell)
    top = round(1.9 * layout.label) if label else 0
    band = _paper(top + tall + layout.gap, width)
    if label:
        text = fit_text(label, layout.label, width - 2 * layout.margin)
        draw_text(band, text, (lefts[0], round(0.8 * layout.label)), size=layout.label, color=_PALE_INK)
    for picture, left in zip(row, lefts, strict=False):
        cell = band[top : top + tall, left : left + layout.cell]
        cell[:] = _CELL
        fitted = _fit(picture, layout.cell, tall)
        y, x = (tall - fitted.shape[0]) // 2, (layout.cell - fitted.shape[1]) // 2
        cell[y : y + fitted.shape[0], x : x + fitted.shape[1]] = fitted
    return band


def _fit(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The picture as RGB, scaled to fill (width, height) in one direction at least."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = (
        min(max(round(picture.shape[1] * scale), 1), width),
        min(max(round(picture.shape[0] * scale), 1), height),
    )
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    fitted = np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=method), np.uint8)
    return np.repeat(fitted[:, :, None], 3, axis=2) if fitted.ndim == 2 else fitted
