"""Distributions of places beside the enumeration of all orders, and beside simulated annotators."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from sor_ppa.ranking.decode import utilities
from sor_ppa.ranking.loss import ranking_loss
from sor_ppa.ranking.order import place_probabilities, predicted_places

from .test_loss import plain_order


@pytest.mark.parametrize("scale", [0.5, 3.0, 12.0])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_place_probabilities_are_sums_over_all_orders(number: int, scale: float) -> None:
    values = torch.randn(number, generator=torch.Generator().manual_seed(number)) * scale
    expected = torch.zeros(number, 3)
    for order in permutations(range(number)):
        chance = plain_order(values.tolist(), order)
        for place, i in enumerate(order[:3]):
            expected[i, place] += chance
    torch.testing.assert_close(place_probabilities(values, [number], 3), expected, atol=2e-6, rtol=0)


def test_many_objects_share_every_place() -> None:
    found = place_probabilities(torch.randn(60, generator=torch.Generator().manual_seed(0)) * 4, [60], 5)
    torch.testing.assert_close(found.sum(0), torch.ones(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "plackett_luce", "pairwise"])
def test_places_of_an_image_do_not_depend_on_its_batch(loss: str) -> None:
    counts = [3, 0, 7, 1]
    logits = torch.randn(11, 5, generator=torch.Generator().manual_seed(2)) * 2
    together = predicted_places(logits, counts, loss)
    alone = [predicted_places(part, [len(part)], loss) for part in logits.split(counts)]
    for name in ("probabilities", "expected", "first"):
        torch.testing.assert_close(getattr(together, name), torch.cat([getattr(p, name) for p in alone]))
    torch.testing.assert_close(torch.stack([p.first.sum() for p in alone if len(p.first)]), torch.ones(3))


@pytest.mark.parametrize("loss", ["cross_entropy", "plackett_luce", "pairwise"])
def test_mixed_precision_does_not_round_probabilities(loss: str) -> None:
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(5))
    expected = predicted_places(logits, [4, 5], loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = predicted_places(logits, [4, 5], loss)
    for name in ("probabilities", "expected", "first"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("loss", ["plackett_luce", "pairwise"])
def test_the_expected_place_is_the_mean_of_its_distribution(loss: str) -> None:
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(3)) * 2
    places = predicted_places(logits, [5], loss)
    mean = places.probabilities @ torch.arange(1.0, 6.0)
    torch.testing.assert_close(places.expected, mean, atol=1e-4, rtol=0)


def test_classes_that_are_certain_give_certain_places() -> None:
    places = predicted_places(torch.eye(5)[[2, 4, 3]] * 50, [3], "cross_entropy")
    torch.testing.assert_close(places.expected, torch.tensor([3.0, 1.0, 2.0]))
    torch.testing.assert_close(places.first, torch.tensor([0.0, 1.0, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(places.probabilities, torch.eye(5)[[2, 0, 1]])


@pytest.mark.parametrize("loss", ["plackett_luce", "pairwise"])
def test_a_loss_finds_the_odds_of_annotators_that_disagree(loss: str) -> None:
    """The optimum for orders drawn from a Plackett-Luce model are its utilities: it is calibrated."""
    generator = torch.Generator().manual_seed(4)
    truth, annotators = torch.tensor([1.5, 0.3, 0.0, -1.0]), 4000
    gumbel = -torch.log(torch.empty(annotators, 4).exponential_(generator=generator))
    ranks = (truth + gumbel).argsort(dim=1).argsort(dim=1)
    logits = torch.zeros(4, 5, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=50)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total, number = ranking_loss(logits.repeat(annotators, 1), ranks.flatten(), [4] * annotators, loss)
        (total / number).backward()
        return total / number

    optimizer.step(closure)
    found = utilities(logits.detach())
    torch.testing.assert_close(found - found.mean(), truth - truth.mean(), atol=0.08, rtol=0)
    first = predicted_places(logits.detach(), [4], loss).first
    torch.testing.assert_close(first, (ranks == 3).float().mean(0), atol=0.015, rtol=0)
