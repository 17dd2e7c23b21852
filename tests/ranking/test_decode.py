"""From logits to ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_ppa.ranking import decode_ranks
from sor_ppa.ranking.decode import rank_all, rank_greedily, rank_scores
from tests.models import ppa_cases
from tests.parity import parity_dir


@pytest.mark.parametrize(("field", "threshold"), [("ranks_center", 0.1), ("ranks_maskrcnn", 0.0)])
def test_greedy_rule_agrees(field: str, threshold: float) -> None:
    cases = ppa_cases()["rank_decode"]["cases"]
    arrays = np.load(parity_dir("ppa") / "rank_decode.npz")
    logits = [torch.from_numpy(arrays[f"logits_{c['i']:02d}"]).float() for c in cases]
    expected = [arrays[f"{field}_{c['i']:02d}"].astype(int).tolist() for c in cases]
    for values, ranks in zip(logits, expected, strict=True):
        assert rank_greedily(values, [len(values)], threshold).tolist() == ranks
    together = rank_greedily(torch.cat(logits), [len(v) for v in logits], threshold)
    assert together.tolist() == [r for ranks in expected for r in ranks]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.integers(0, 999),
    st.sampled_from(["greedy", "all"]),
)
def test_images_do_not_influence_one_another(counts: list[int], seed: int, decoder: str) -> None:
    logits = torch.randn(sum(counts), 5, generator=torch.Generator().manual_seed(seed)) * 3
    ranks, scores = decode_ranks(logits, counts, decoder)
    alone = [decode_ranks(part, [len(part)], decoder) for part in logits.split(counts)]
    assert ranks.tolist() == torch.cat([r for r, _ in alone]).tolist()
    torch.testing.assert_close(scores, torch.cat([s for _, s in alone]))


def test_equal_objects_are_ranked_in_list_order() -> None:
    assert rank_greedily(torch.zeros(4, 5), [4], 0.1).tolist() == [4, 3, 2, 1]
    assert rank_all(torch.zeros(3), [3]).tolist() == [2, 1, 0]


def test_many_similar_objects_stay_unranked_unless_all_are_asked_for() -> None:
    logits = torch.randn(50, 5, generator=torch.Generator().manual_seed(1)) * 0.01
    greedy, scores = decode_ranks(logits, [50])
    assert (greedy == -1).all()
    ranks, _ = decode_ranks(logits, [50], "all")
    assert sorted(ranks.tolist()) == list(range(50))
    assert scores[ranks.argsort()].diff().min() >= 0


def test_scores_are_expected_ranks() -> None:
    certain = torch.eye(5) * 100
    torch.testing.assert_close(rank_scores(certain), torch.arange(5.0))
    torch.testing.assert_close(rank_scores(torch.zeros(1, 5)), torch.tensor([2.0]))
