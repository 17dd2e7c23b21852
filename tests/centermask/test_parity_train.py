"""Training losses and gradients against the published model."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.structures import BitMasks
from torch import nn

from sor_ppa.checkpoint import convert_published
from tests.models import as_input, make_cfg, polygon_targets, ppa_cases, ppa_model, published_tensors
from tests.parity import parity_dir


def training_model(case: dict, **overrides: object) -> nn.Module:
    return ppa_model(case, make_cfg(MODEL__SOR__TRANSFORMER__DROPOUT=0.0, **overrides)).train()


@pytest.mark.parametrize("name", ["ppa_train_T1", "ppa_train_T4"])
def test_losses_and_gradients_agree(name: str) -> None:
    case = ppa_cases()[name]
    model = training_model(case)
    losses = model([as_input(case["image"], instances=polygon_targets(case))])
    assert set(losses) == set(case["losses"])
    for key, value in case["losses"].items():
        assert losses[key].item() == pytest.approx(value, rel=1e-4), key
    sum(losses.values()).backward()

    folder = parity_dir("ppa")
    expected = json.loads((folder / f"{name}_grads.json").read_text())["grad_l2_norm_and_sum"]
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    renamed = convert_published(
        {
            n: torch.tensor(expected[n][0])
            for n in published_tensors(folder / case["model_state"])
            if n in expected
        },
        system="sor",
    )
    assert set(renamed) <= set(grads)
    assert len(renamed) > 200
    for key, norm in renamed.items():
        assert grads[key].norm().item() == pytest.approx(norm.item(), rel=1e-3, abs=1e-6), key


def test_bitmask_targets_give_almost_the_same_losses() -> None:
    case = ppa_cases()["ppa_train_T1"]
    model = training_model(case)
    instances = polygon_targets(case)
    with torch.no_grad():
        polygons = model([as_input(case["image"], instances=instances)])
        instances.gt_masks = BitMasks.from_polygon_masks(instances.gt_masks.polygons, 480, 640)
        bitmasks = model([as_input(case["image"], instances=instances)])
    for key in polygons:
        assert bitmasks[key].item() == pytest.approx(polygons[key].item(), rel=0.02), key


def test_images_without_objects_or_ranks_train() -> None:
    case = ppa_cases()["ppa_train_T1"]
    model = training_model(case)
    full = polygon_targets(case)
    unranked = polygon_targets(case)
    unranked.gt_ranks = torch.full_like(unranked.gt_ranks, -1)
    batch = [as_input(case["image"], instances=x) for x in (full, unranked, full[:0])]
    losses = model(batch)
    assert all(torch.isfinite(v) for v in losses.values())
    nothing = model([as_input(case["image"], instances=full[:0])])
    assert nothing["sor_loss"].item() == 0
    assert nothing["loss_mask"].item() == 0
    sum(nothing.values()).backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []  # distributed training needs a gradient for every parameter
