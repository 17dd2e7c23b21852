from __future__ import annotations

import pytest

from sor_ppa.data.train_loader import evenly


def test_a_tenth_is_every_tenth() -> None:
    assert evenly(list(range(40)), 0.1) == [0, 10, 20, 30]


def test_the_whole_stays_in_order() -> None:
    assert evenly([3, 1, 2], 1.0) == [3, 1, 2]


def test_one_always_stays() -> None:
    assert evenly([5, 6, 7], 0.001) == [5]


def test_nothing_of_nothing() -> None:
    assert evenly([], 0.5) == []


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, float("nan")])
def test_fractions_out_of_range_are_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="TRAIN_FRACTION"):
        evenly([1, 2], fraction)
