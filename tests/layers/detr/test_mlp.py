"""Prediction heads."""

from __future__ import annotations

import pytest
import torch

from sor_ppa.layers.detr.mlp import MLP, prior_logit


def test_prior_logit_gives_the_probability() -> None:
    assert torch.tensor(prior_logit(0.02)).sigmoid().item() == pytest.approx(0.02)


def test_the_output_starts_at_zero_where_asked() -> None:
    mlp = MLP(4, 8, 2, num_layers=3)
    mlp.zero_last()
    assert not mlp(torch.randn(5, 4)).any()
