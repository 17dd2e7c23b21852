"""Losses, matches and gradients equal the published code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sor_ppa.checkpoint import convert_published
from tests.mask2former.reference import (
    arrays,
    checks,
    drawn,
    images,
    info,
    recorded_draws,
    reference_model,
)
from tests.parity import deterministic

CASE = "train_single"


@pytest.fixture(scope="module")
def trained() -> tuple[Any, dict[str, torch.Tensor]]:
    """The model after a backward pass, and its losses."""
    model = reference_model(CASE).train()
    (image,) = images(CASE)
    inputs = [{"image": image, "instances": drawn(info(CASE)["targets"][0], *image.shape[1:])}]
    with recorded_draws(info(CASE)["draws"]):
        losses = model(inputs)
    sum(losses.values()).backward()
    return model, losses


def test_losses(trained: Any) -> None:
    names = info(CASE)["loss_names"]
    assert set(trained[1]) == set(names)
    checks(CASE).close("losses", torch.stack([trained[1][name] for name in names]))


def test_gradients(trained: Any) -> None:
    expected, parameters = arrays(CASE), dict(trained[0].named_parameters())
    for row, name in enumerate(info(CASE)["grad_names"]):
        (ours,) = convert_published({name: None}, system="mask2former")
        gradient = parameters[ours].grad
        norm = expected["grad_norm"][row]
        assert abs(gradient.norm().item() - norm) <= 1e-3 * norm + 1e-4, name
        sample = deterministic().sample(gradient, 8)
        np.testing.assert_allclose(
            sample, expected["grad_sample"][row][: len(sample)], atol=2e-3 * norm + 1e-5
        )


def test_a_batch_without_objects_trains() -> None:
    model = reference_model(CASE).train()
    losses = model([{"image": images(CASE)[0][:, :64, :64], "instances": drawn([], 64, 64)}])
    sum(losses.values()).backward()
    assert float(losses["loss_mask"].detach()) == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
