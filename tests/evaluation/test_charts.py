"""Charts of lines."""

from __future__ import annotations

import math
import re

import pytest

from sor_ppa.evaluation.charts import Line, line_chart


def points(chart: str, number: int) -> list[tuple[float, float]]:
    (found,) = re.findall(rf'class="series s{number}" points="([^"]*)"', chart)
    return [tuple(map(float, pair.split(","))) for pair in found.split()]


@pytest.mark.parametrize("values", [[0.2, 0.9], [-0.5, 0.3], [0.7, 0.7], [0.0, 0.0]])
def test_lines_stay_inside_and_larger_values_are_higher(values: list[float]) -> None:
    chart = line_chart({0: Line([0, 1], values)}, ("x", "y"))
    (x0, y0), (x1, y1) = points(chart, 0)
    assert 0 <= x0 < x1 <= 360
    assert 0 <= y1 <= 250
    assert (y1 < y0) == (values[1] > values[0])


def test_a_missing_value_is_no_point_and_names_are_escaped() -> None:
    chart = line_chart({3: Line([0, 0.5, 1], [0.1, math.nan, 0.4], (0.5, 0.3))}, ("<x>", "y"))
    assert len(points(chart, 3)) == 2
    assert "&lt;x&gt;" in chart
    assert chart.count("<circle") == 1


def test_a_chart_without_lines_has_axes() -> None:
    assert "1</text>" in line_chart({}, ("x", "y"), diagonal=True)
