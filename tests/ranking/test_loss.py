"""The order losses beside plain Python, which enumerates orders and pairs."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import pytest
import torch
from torch import Tensor

from sor_ppa.ranking.loss import order_loss, ranking_loss

LOSSES = ["plackett_luce", "pairwise"]


def plain_order(values: list[float], order: tuple[int, ...]) -> float:
    """The Plackett-Luce probability that objects are drawn in an order, most salient first."""
    strengths = [math.exp(v) for v in values]
    left, chance = sum(strengths[i] for i in order), 1.0
    for i in order:
        chance *= strengths[i] / left
        left -= strengths[i]
    return chance


def plain_plackett_luce(values: list[float], ranks: list[int]) -> float:
    """The mean over the orders inside ties, of probabilities of the drawing of the ranked objects."""
    ranked = [i for i, rank in enumerate(ranks) if rank >= 0]
    others = [math.exp(v) for v, rank in zip(values, ranks, strict=True) if rank < 0]
    fitting = [
        order for order in permutations(ranked) if all(ranks[a] >= ranks[b] for a, b in pairwise(order))
    ]
    chances = []
    for order in fitting:
        chance, left = 1.0, [math.exp(values[i]) for i in order]
        while left:
            chance *= left[0] / (sum(left) + sum(others))
            left = left[1:]
        chances.append(chance)
    return -math.log(sum(chances) / len(chances))


def plain_pairwise(values: list[float], ranks: list[int]) -> float:
    total = 0.0
    for i in range(len(values)):
        for j in range(i):
            if ranks[i] < 0 and ranks[j] < 0:
                continue
            wins = (ranks[i] > ranks[j]) + 0.5 * (ranks[i] == ranks[j])
            chance = 1 / (1 + math.exp(values[j] - values[i]))
            total -= wins * math.log(chance) + (1 - wins) * math.log(1 - chance)
    return total


def loss_of(values: list[float] | Tensor, ranks: list[int], loss: str, objects: list[int] | None = None):
    owner = None if objects is None else torch.tensor(objects)
    inputs = torch.as_tensor(values, dtype=torch.float64)
    return order_loss(inputs, torch.tensor(ranks), [len(ranks)], loss, owner)


@pytest.mark.parametrize(
    ("values", "ranks", "ranked"),
    [
        ([0.3, -1.2, 2.0, 0.7], [1, 3, 0, 2], 4),
        ([0.3, -1.2, 2.0, 0.7, 0.1], [5, -1, 3, -1, 4], 3),  # two objects without a rank
        ([0.5, 0.5, -0.2, 1.5, 0.5], [2, 2, 0, 4, 2], 5),  # a tie of three equal objects
        ([0.5, 0.5, 1.0, 1.0, 0.2], [3, 3, 1, 1, -1], 4),
        ([1.0], [4], 1),
    ],
)
def test_plackett_luce_is_the_likelihood_of_the_order(
    values: list[float], ranks: list[int], ranked: int
) -> None:
    total, number = loss_of(values, ranks, "plackett_luce")
    assert total.item() == pytest.approx(plain_plackett_luce(values, ranks))
    assert number == ranked


def test_plackett_luce_without_ties_is_a_distribution_over_orders() -> None:
    values = [0.3, -1.2, 2.0, 0.7]
    for order in permutations(range(4)):
        ranks = [3 - order.index(i) for i in range(4)]
        total, _ = loss_of(values, ranks, "plackett_luce")
        assert math.exp(-total) == pytest.approx(plain_order(values, order))


def test_unequal_ties_have_efrons_form() -> None:
    total, _ = loss_of([0.0, 1.0, -1.0], [1, 1, 0], "plackett_luce")
    tie, below = 1 + math.e, math.exp(-1)
    assert total.item() == pytest.approx(math.log(below + tie) + math.log(below + tie / 2) - 1)


@pytest.mark.parametrize("ranks", [[1, 3, 0, 2], [2, 2, 0, -1], [-1, -1, -1, 4], [-1] * 4])
def test_pairwise_counts_every_pair_with_a_rank(ranks: list[int]) -> None:
    values = [0.3, -1.2, 2.0, 0.7]
    total, number = loss_of(values, ranks, "pairwise")
    assert total.item() == pytest.approx(plain_pairwise(values, ranks))
    unranked = ranks.count(-1)
    assert number == 6 - unranked * (unranked - 1) / 2


@pytest.mark.parametrize("loss", LOSSES)
def test_proposals_of_one_object_weigh_as_one(loss: str) -> None:
    one = loss_of([0.3, -1.2, 2.0, 0.7], [2, 2, -1, 3], loss)
    several = loss_of(
        [0.3, 0.3, 0.3, -1.2, 2.0, 2.0, 0.7], [2, 2, 2, 2, -1, -1, 3], loss, [5, 5, 5, 1, 0, 0, 2]
    )
    for a, b in zip(one, several, strict=True):
        torch.testing.assert_close(a, b, check_dtype=False)


@pytest.mark.parametrize("loss", LOSSES)
def test_images_of_a_batch_add_up_to_their_own_losses(loss: str) -> None:
    generator = torch.Generator().manual_seed(0)
    counts = [3, 0, 1, 9, 2]
    values = torch.randn(15, generator=generator, dtype=torch.float64)
    ranks = torch.randint(-1, 4, (15,), generator=generator)
    objects = torch.randint(0, 4, (15,), generator=generator)
    ranks = ranks[objects]  # proposals of an object share its rank
    together = order_loss(values, ranks, counts, loss, objects)
    parts = zip(values.split(counts), ranks.split(counts), objects.split(counts), strict=True)
    alone = [order_loss(v, r, [len(v)], loss, o) for v, r, o in parts]
    for index in range(2):
        torch.testing.assert_close(together[index], sum(pair[index] for pair in alone), check_dtype=False)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ranks", [[3, 1, 1, -1, -1, 2], [0] * 6, [-1] * 6])
def test_gradients_agree_with_finite_differences(loss: str, ranks: list[int]) -> None:
    values = torch.randn(
        6, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True
    )
    torch.autograd.gradcheck(lambda v: order_loss(v, torch.tensor(ranks), [4, 2], loss)[0], values)


@pytest.mark.parametrize("loss", [*LOSSES, "cross_entropy"])
@pytest.mark.parametrize("counts", [[0, 0], [7, 8]])
def test_more_objects_than_ranks_none_and_large_logits_have_finite_gradients(
    loss: str, counts: list[int]
) -> None:
    number = sum(counts)
    logits = (torch.randn(number, 5) * 1e4).requires_grad_()
    ranks = (torch.arange(number) % 6) - 1
    total, _ = ranking_loss(logits, ranks, counts, loss)
    total.backward()
    assert torch.isfinite(total)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
