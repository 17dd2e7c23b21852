from __future__ import annotations

import pytest

from sor_ppa.data.train_loader import evenly


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(40, 0.1, [0, 10, 20, 30]), (3, 1.0, [0, 1, 2]), (3, 0.001, [0]), (0, 0.5, [])],
)
def test_a_fraction_is_evenly_spaced(count: int, fraction: float, expected: list[int]) -> None:
    assert evenly(list(range(count)), fraction) == expected
