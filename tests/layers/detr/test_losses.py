"""Losses and their gradients against recorded numbers of the published Salience-DETR."""

from __future__ import annotations

import torch

from sor_ppa.layers.detr.losses import (
    VarifocalCriterion,
    name_by_layer,
    soft_focal_loss,
    varifocal_loss,
    weigh,
)
from tests.salience_detr.units import MATCHER, case, given, two_images, uniform, unit


def test_varifocal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    quality = torch.full((2, 40, 7), -1.0)
    for position, iou in zip([(0, 3, 2), (0, 30, 6), (1, 11, 0)], [0.7, 0.2, 0.95], strict=True):
        quality[position] = iou
    loss = varifocal_loss(logits, quality).sum() / 3
    unit().close("vfl", loss.view(1))
    unit().sample("vfl_grad", torch.autograd.grad(loss, logits)[0])


def test_soft_focal_loss() -> None:
    logits = given("classification_losses", "logits").requires_grad_()
    cases = case("classification_losses")
    soft = uniform(cases["soft"], [2, 40, 7], 0, 1) * (uniform(cases["softm"], [2, 40, 7], 0, 1) > 0.7)
    loss = soft_focal_loss(logits, soft) / 5
    unit().close("focal", loss.view(1))
    unit().sample("focal_grad", torch.autograd.grad(loss, logits)[0])


def test_detection_criterion() -> None:
    predictions, targets = two_images()
    losses, _ = VarifocalCriterion(MATCHER)(predictions, targets, targets.mean_count())
    unit().close("crit", torch.cat(list(losses.values())))


def test_terms_are_weighted_and_named_by_layer() -> None:
    terms = weigh({"loss_ce": torch.tensor([1.0, 2.0])}, {"loss_ce": 3.0})
    named = {name: value.item() for name, value in name_by_layer(terms, "_x").items()}
    assert named == {"loss_ce_x": 6.0, "loss_ce_x_0": 3.0}
