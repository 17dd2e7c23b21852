"""Calibration beside simulated annotators, whose probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sor_ppa.evaluation.calibration import reliability
from sor_ppa.evaluation.checks import InputError
from sor_ppa.ranking.order import place_probabilities


def annotated(scale: float) -> float:
    """Return the ECE of predictions from utilities ``scale`` times those of the annotators."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(4000, 4, generator=generator)
    gumbel = -torch.log(torch.empty(truth.shape).exponential_(generator=generator))
    first = (truth + gumbel).argmax(dim=1, keepdim=True) == torch.arange(4)
    chance = place_probabilities(scale * truth.flatten(), [4] * 4000, 1)
    return reliability(chance.flatten().clamp(0, 1), first.flatten()).error


def test_the_annotators_own_probabilities_are_calibrated() -> None:
    assert annotated(1) < 0.01
    assert annotated(3) > 0.08  # too sure
    assert annotated(0.2) > 0.06  # not sure enough


def test_the_error_is_the_mean_distance_over_events() -> None:
    found = reliability([0.05, 0.15, 0.15, 1.0], [0, 1, 0, 1])
    assert found.counts.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.observed[:2].tolist() == [0, 0.5]
    assert found.error == pytest.approx((0.05 + 2 * 0.35) / 4)


def test_probabilities_outside_0_to_1_are_refused() -> None:
    with pytest.raises(InputError, match=r"probabilities: expected numbers in \[0, 1\], found"):
        reliability([1.5], [1])
    assert np.isnan(reliability([], []).observed).all()
