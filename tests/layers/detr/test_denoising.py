"""Denoising queries with the recorded noise of the published Salience-DETR."""

from __future__ import annotations

import torch

from sor_ppa.layers.detr.denoising import ContrastiveDenoising, Noise
from sor_ppa.layers.detr.matching import BoxTargets
from tests.salience_detr.reference import arrays
from tests.salience_detr.units import filled, objects, unit


def test_queries_equal_the_published() -> None:
    boxes, labels = objects()
    module = filled(ContrastiveDenoising(30, 11, 16, num_denoising=10), "unit/shared/dn.")
    fixture = arrays("unit")
    noise = Noise(
        label_draw=torch.from_numpy(fixture["dn_label_rand"]),
        label=torch.from_numpy(fixture["dn_label_new"]).long(),
        sign=torch.from_numpy(fixture["dn_sign_bits"]).float() * 2 - 1,
        distance=torch.from_numpy(fixture["dn_box_rand"]),
    )
    found = module(BoxTargets.pad([boxes[:3], boxes[3:5]], [labels[:3], labels[3:5]]), noise)
    assert found is not None
    unit().equal("dn_meta", [found.groups, found.slots])
    unit().equal("dn_attn_mask", found.blocked)
    unit().close("dn_label_query", found.content)
    unit().close("dn_box_query", found.box_logits)
