"""Intervals and tests beside known answers."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test

from sor_ppa.evaluation.resampling import bootstrap_intervals, holm, sign_flip_p_values


def test_intervals_of_normal_values_have_the_known_width() -> None:
    values = np.random.default_rng(0).normal(3, 2, (400, 2))
    values[::2, 1] = np.nan
    low, high = bootstrap_intervals(values, draws=2000)
    for column, number in enumerate((400, 200)):
        mean, error = np.nanmean(values[:, column]), np.nanstd(values[:, column]) / np.sqrt(number)
        assert low[column] == pytest.approx(mean - 1.96 * error, abs=0.25 * error)
        assert high[column] == pytest.approx(mean + 1.96 * error, abs=0.25 * error)


def test_intervals_cover_the_true_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    values = np.where(rng.random((200, 500)) < 0.6, 1.0, rng.uniform(-1, 1, (200, 500)))
    values[rng.random(values.shape) < 0.3] = np.nan  # images that are not used
    low, high = bootstrap_intervals(values, draws=500)
    assert ((low <= 0.6) & (high >= 0.6)).mean() == pytest.approx(0.95, abs=0.03)


def test_a_column_without_values_has_no_interval_and_no_evidence() -> None:
    values = np.full((5, 1), np.nan)
    assert np.isnan(bootstrap_intervals(values)).all()
    assert sign_flip_p_values(values) == [1]


def test_p_values_are_shares_of_all_signs() -> None:
    values = np.array([0.4, -0.1, 0.3, 0.2, 0.05, 0.6])
    signs = np.array(list(product([-1, 1], repeat=6)))
    exact = (np.abs(signs @ values) >= abs(values.sum()) - 1e-12).mean()
    (found,) = sign_flip_p_values(values[:, None], draws=20000)
    assert found == pytest.approx(exact, abs=0.01)


def test_p_values_equal_those_of_scipy() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.beta(4, 2, 60), rng.beta(4, 2, 60) - 0.06
    expected = permutation_test(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis),
        permutation_type="samples",
        vectorized=True,
        random_state=0,
        n_resamples=20000,
    )
    (found,) = sign_flip_p_values((first - second)[:, None], draws=20000)
    assert found == pytest.approx(expected.pvalue, abs=0.015)


def test_p_values_without_difference_are_uniform() -> None:
    values = np.random.default_rng(1).normal(size=(50, 400))
    found = sign_flip_p_values(values, draws=500)
    assert (found < 0.05).mean() == pytest.approx(0.05, abs=0.03)
    assert (found < 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_holm_of_a_textbook_example() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
