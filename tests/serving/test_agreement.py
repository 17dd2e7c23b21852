"""Agreement of annotators."""

from __future__ import annotations

import pytest

from sor_ppa.evaluation import sa_sor
from sor_ppa.serving.agreement import kendall_tau, sa_sor_between

from .running import document, square_mask


def test_kendall_tau_b_corrects_for_ties() -> None:
    first = document({"left": 0, "rank": 1}, {"left": 20, "rank": 2}, {"left": 40, "rank": 3})
    second = document({"left": 0, "rank": 1}, {"left": 20, "rank": 1}, {"left": 40})
    # pairs: one tied in the second, two concordant; tau-b = 2 / sqrt(3 * 2)
    assert kendall_tau(first, second) == pytest.approx(2 / 6**0.5)
    assert kendall_tau(second, first) == pytest.approx(2 / 6**0.5)


def test_kendall_tau_needs_two_common_objects() -> None:
    first, second = (
        document({"left": 0, "rank": 1}),
        document({"left": 1, "rank": 1}, {"left": 40, "rank": 2}),
    )
    assert kendall_tau(first, second) is None


def test_sa_sor_is_the_metric_of_the_package() -> None:
    first = document({"left": 2, "rank": 1}, {"left": 21, "rank": 2}, {"left": 60, "rank": 3})
    second = document({"left": 0, "rank": 2}, {"left": 20, "rank": 1}, {"left": 40, "rank": 3}, {"left": 60})
    wanted = sa_sor(
        [square_mask(left, 10, 10) for left in (20, 0, 40)],
        [2, 1, 0],
        [square_mask(left, 10, 10) for left in (2, 21, 60)],
        [3, 2, 1],
    )
    assert sa_sor_between(first, second) == wanted.value


def test_sa_sor_is_undefined_for_one_object() -> None:
    one = document({"left": 0, "rank": 1})
    assert sa_sor_between(one, one) is None
