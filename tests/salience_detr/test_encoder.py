"""The encoder layer against recorded numbers."""

from __future__ import annotations

from sor_ppa.layers.detr.attention import GlobalAttention
from sor_ppa.layers.detr.deformable_attention import MultiScaleDeformableAttention
from sor_ppa.salience_detr.encoder import SalienceEncoderLayer
from tests.salience_detr.units import filled, given, layer_inputs, unit


def test_encoder_layer() -> None:
    attention = GlobalAttention(256, 8), MultiScaleDeformableAttention(256, 4, 8, 4)
    layer = filled(SalienceEncoderLayer(*attention, 256, 512, num_attended=20), "unit/shared/el.")
    logits, salience = given("encoder_layer", "score_tgt", "foreground_pre_layer")
    unit().sample("encoder_layer", layer(*layer_inputs("encoder_layer"), logits.amax(-1) * salience))
