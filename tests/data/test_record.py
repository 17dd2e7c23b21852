from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sor_ppa.data.record import training_ranks


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ([], []),
        ([0], [4]),
        ([0, 1, 2], [2, 3, 4]),
        ([4, 3, 2], [4, 3, 2]),
        ([1, 1, 0], [4, 4, 3]),
        ([-1, 0, -1], [-1, 4, -1]),
        ([-1, -1], [-1, -1]),
        ([7, 0, 1, 2, 3, 4, 5, 6], [4, 0, 0, 0, 0, 1, 2, 3]),
    ],
)
def test_top_counts_down_from_the_most_salient(ranks: list[int], expected: list[int]) -> None:
    assert training_ranks(ranks, 5).tolist() == expected


def test_overflow_can_be_ignored() -> None:
    assert training_ranks([6, 5, 4, 3, 2, 1, 0], 5, overflow="ignore").tolist() == [4, 3, 2, 1, 0, -1, -1]


@pytest.mark.parametrize(("ranks", "expected"), [([0, 1], [0, 1]), ([4, 2, 0], [4, 2, 0]), ([6, 0], [4, 0])])
def test_keep_leaves_what_fits(ranks: list[int], expected: list[int]) -> None:
    assert training_ranks(ranks, 5, "keep").tolist() == expected


@given(st.lists(st.integers(-1, 9), max_size=12), st.integers(1, 9), st.sampled_from(["top", "keep"]))
def test_order_never_turns_round(ranks: list[int], num_ranks: int, rule: str) -> None:
    labels = training_ranks(ranks, num_ranks, rule).tolist()
    for rank, label in zip(ranks, labels, strict=True):
        assert (label == -1) == (rank == -1)
        assert label < num_ranks
        for other, other_label in zip(ranks, labels, strict=True):
            if rank > other >= 0:
                assert label >= other_label
