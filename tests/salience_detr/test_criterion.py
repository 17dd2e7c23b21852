"""The salience criterion against recorded numbers."""

from __future__ import annotations

import torch

from sor_ppa.layers.detr.boxes import cxcywh_to_xyxy
from sor_ppa.layers.detr.levels import build_levels
from sor_ppa.layers.detr.matching import BoxTargets
from sor_ppa.salience_detr.criterion import SalienceCriterion, salience_targets
from tests.salience_detr.units import case, uniform, unit


def test_salience_criterion() -> None:
    cases = case("salience_criterion")
    logits = [uniform(*recipe).requires_grad_() for recipe in cases["logits"]]
    shapes = [tuple(level.shape[-2:]) for level in logits]
    sizes = [tuple(size) for size in cases["image_sizes"]]
    levels = build_levels(sizes, (320, 416), shapes, torch.device("cpu"))
    boxes = [torch.tensor(b) for b in cases["boxes_cxcywh"]]
    targets = BoxTargets.pad(boxes, [torch.zeros(len(b), dtype=torch.int64) for b in boxes])
    loss = SalienceCriterion(weight=1.0)(logits, levels, targets, sizes, (320, 416))["loss_salience"]
    unit().close("sal_loss", loss.view(1))
    for i, gradient in enumerate(torch.autograd.grad(loss, logits)):
        unit().sample(f"sal_grad_{i}", gradient)
    strides = [tuple(s) for s in cases["strides"]]
    scale = torch.tensor([(w, h, w, h) for h, w in sizes])[:, None]
    found = salience_targets(levels, strides, cxcywh_to_xyxy(targets.boxes) * scale, (64, 128, 256))
    for i, part in enumerate(levels.unflatten(found.unsqueeze(-1))):
        unit().close(f"sal_target_{i}", part[:, 0])
