"""One order from several."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from sor_ppa.data.masks import segmentation_mask
from sor_ppa.serving.consensus import METHODS, borda, consensus_objects, plackett_luce

from .running import document, square_mask

INF = np.inf


def test_borda_counts_the_objects_below() -> None:
    assert borda(np.array([[1.0, 2, INF], [1, 1, 2]])).tolist() == [
        2.5 + 0.5 + 1.5,
        1.5 + 0.5 + 1.5,
        0.5 + 0 + 0.5,
    ]


def test_plackett_luce_is_the_most_likely_worth() -> None:
    orders = np.array([[1.0, 2, 3], [2, 1, 3], [1, 3, 2], [1, 2, INF]])

    def negative_likelihood(log_worth: np.ndarray) -> float:
        worth = np.exp(log_worth)
        total = -(log_worth - 2 * np.log1p(worth)).sum()  # a win and a loss against worth 1
        for row in orders:
            for i in np.flatnonzero(np.isfinite(row)):
                total -= log_worth[i] - np.log(worth[row >= row[i]].sum())
        return float(total)

    best = minimize(negative_likelihood, np.zeros(3), tol=1e-10).x
    assert plackett_luce(orders) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("method", list(METHODS))
def test_one_annotator_is_the_consensus(method: str) -> None:
    one = document({"left": 0, "rank": 2}, {"left": 20, "rank": 1}, {"left": 40, "rank": 2}, {"left": 60})
    assert [item.rank for item in consensus_objects([one], method)] == [0, 1, 0, -1]


@pytest.mark.parametrize("method", list(METHODS))
def test_two_of_three_decide(method: str) -> None:
    orders = [(1, 2), (1, 2), (2, 1)]
    documents = [document({"left": 0, "rank": a}, {"left": 20, "rank": b}) for a, b in orders]
    assert [item.rank for item in consensus_objects(documents, method)] == [1, 0]


def test_objects_of_a_minority_are_left_out() -> None:
    documents = [
        document({"left": 0, "rank": 1}, {"left": 20, "rank": 2}),
        document({"left": 0, "rank": 1}, {"left": 20, "state": "rejected"}),
        document({"left": 0, "rank": 1}),
    ]
    assert len(consensus_objects(documents, "borda")) == 1


def test_an_object_that_most_do_not_rank_is_not_salient() -> None:
    documents = [
        document({"left": 0, "rank": 1}),
        document({"left": 0}),
        document({"left": 0, "salient": False}),
    ]
    assert [item.rank for item in consensus_objects(documents, "borda")] == [-1]


def test_the_mask_has_the_pixels_of_most() -> None:
    documents = [document({"left": left, "rank": 1}) for left in (20, 21, 22)]
    (item,) = consensus_objects(documents, "borda")
    assert np.array_equal(segmentation_mask(item.segmentation, 60, 80), square_mask(21, 10, 10))
