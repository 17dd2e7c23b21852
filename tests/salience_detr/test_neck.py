"""Necks against recorded numbers."""

from __future__ import annotations

import torch

from sor_ppa.salience_detr.neck import ChannelMapper, RepVGGPluXNetwork
from tests.salience_detr.units import case, filled, made, unit


def test_channel_mapper() -> None:
    module = filled(ChannelMapper([32, 64, 96], 64, 5), "unit/shared/cm.")
    inputs = [made(recipe) for recipe in case("channel_mapper")["inputs"]]
    for i, out in enumerate(module(inputs)):
        assert list(out.shape) == case("channel_mapper")["shapes"][i]
        unit().sample(f"cm_{i}", out)


def test_fusion_network() -> None:
    module = filled(RepVGGPluXNetwork(64, 4, groups=4), "unit/shared/rep.")
    inputs = [made(recipe) for recipe in case("repnet")["inputs"]]
    for i, out in enumerate(module(inputs)):
        unit().sample(f"rep_{i}", out)
    layer = module.layer_blocks[0]
    unit().sample("rep_block", layer.bottlenecks[0](inputs[0]))
    unit().sample("rep_csp", layer(torch.cat([inputs[0], inputs[0].flip(1)], 1)))
    unit().sample("rep_se", layer.bottlenecks[0].se_module(inputs[0]))
    for i, out in enumerate(module.train()(inputs)):
        unit(5e-6).sample(f"rep_train_{i}", out)
