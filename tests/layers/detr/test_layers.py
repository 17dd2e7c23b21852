"""Transformer layers against recorded numbers of the published Salience-DETR."""

from __future__ import annotations

import torch

from sor_ppa.layers.detr.attention import GlobalAttention
from sor_ppa.layers.detr.deformable_attention import MultiScaleDeformableAttention
from sor_ppa.layers.detr.layers import DecoderLayer
from tests.salience_detr.units import filled, layer_inputs, unit


def test_decoder_layer_equals_the_published() -> None:
    attention = GlobalAttention(256, 8), MultiScaleDeformableAttention(256, 4, 8, 4)
    layer = filled(DecoderLayer(*attention, 256, 512), "unit/shared/dl.")
    blocked = torch.zeros(20, 20, dtype=torch.bool)
    blocked[8:, :8] = True
    unit().sample("decoder_layer", layer(*layer_inputs("decoder_layer"), blocked))
