"""Line charts as SVG for the pages of this package; colors come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

__all__ = ["Line", "line_chart", "series_style"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _EDGE = 360, 250, 46, 40, 10


class Line(NamedTuple):
    """A line through points (x, y); NaN leaves a gap. ``ring`` marks one point."""

    x: Sequence[float]
    y: Sequence[float]
    ring: tuple[float, float] | None = None


def line_chart(lines: Mapping[int, Line], labels: tuple[str, str], *, diagonal: bool = False) -> str:
    """Return a chart as an SVG element.

    Args:
        lines: by number, see :func:`series_style`.
        labels: of the horizontal axis, from 0 to 1, and of the vertical one.
        diagonal: both axes go from 0 to 1, and a dashed line shows where they are equal.
    """
    values = [y for line in lines.values() for y in line.y if not math.isnan(y)]
    low, high, step = (0.0, 1.0, 0.2) if diagonal or not values else _nice_range(min(values), max(values))
    right, bottom = _WIDTH - _EDGE, _HEIGHT - _BOTTOM

    def at(x: float, y: float) -> str:
        share = (y - low) / (high - low)
        return f"{_LEFT + x * (right - _LEFT):.1f},{bottom - share * (bottom - _EDGE):.1f}"

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(labels[1])}">']
    for number in range(round((high - low) / step) + 1):
        y = low + number * step
        text_x, text_y = at(0, y).split(",")
        parts.append(f'<polyline class="grid" points="{at(0, y)} {at(1, y)}"/>')
        parts.append(
            f'<text x="{float(text_x) - 6:.1f}" y="{float(text_y) + 4:.1f}" class="end">{y:.3g}</text>'
        )
    for x in (0, 0.25, 0.5, 0.75, 1):
        text_x = at(x, low).split(",")[0]
        parts.append(f'<text x="{text_x}" y="{bottom + 16}" class="middle">{x:g}</text>')
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{_HEIGHT - 6}" class="middle">{escape(labels[0])}</text>'
    )
    if diagonal:
        parts.append(f'<polyline class="dashed" points="{at(0, 0)} {at(1, 1)}"/>')
    for number, line in lines.items():
        points = [at(x, y) for x, y in zip(line.x, line.y, strict=True) if not math.isnan(y)]
        style = f"series {series_style(number)}"
        parts.append(f'<polyline class="{style}" points="{" ".join(points)}"/>')
        if line.ring:
            left, top = at(*line.ring).split(",")
            parts.append(f'<circle class="{style}" cx="{left}" cy="{top}" r="5"/>')
    return "".join([*parts, "</svg>"])


def series_style(number: int) -> str:
    """Return the classes of line ``number`` and its key: one of 8 colors, and ``again`` where they repeat."""
    return f"s{number % 8}" + " again" * (number >= 8)


def _nice_range(low: float, high: float) -> tuple[float, float, float]:
    """Return a range around values that ends on multiples of a round step, and the step."""
    rough = max(high - low, 0.01) / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, max(last, first + 1) * step, step
