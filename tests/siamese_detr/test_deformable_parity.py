"""Deformable pre-training: losses of the published code on the inputs of the conditional case with jitter.

``deformable_{ms,ss}.json`` hold the published parameter names and losses, recorded with the published
plain PyTorch attention.
"""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from sor_ppa.checkpoint.siamese_detr import convert
from sor_ppa.layers.detr.losses import name_by_layer
from tests.detr import manifest

from .published import fixture, make_cfg
from .test_pretraining_parity import make_batch, make_noise

VARIANTS = {"ms": (["res3", "res4", "res5"], 4), "ss": (["res5"], 1)}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_equal_the_published(variant):
    recorded = manifest("siamese_detr", f"deformable_{variant}")
    case = fixture("pretrain_conditional_jitter")
    features, levels = VARIANTS[variant]
    cfg = make_cfg(
        "SiameseDETR",
        TRANSFORMER="deformable",
        NUM_QUERIES=300,
        FFN_DIM=1024,
        IN_FEATURES=features,
        NUM_FEATURE_LEVELS=levels,
    )
    cfg.MODEL.RESNETS.OUT_FEATURES = features
    cfg.MODEL.SIAMESE_DETR.PRETRAIN.FEATURE_WEIGHT = 3.0
    cfg.MODEL.SIAMESE_DETR.PRETRAIN.FIRST_IMAGE_QUERIES = True
    model = build_model(cfg).train()
    shapes = {name: torch.zeros(s, dtype=getattr(torch, d)) for name, (s, d) in recorded["names"].items()}
    model.load_state_dict(convert({n: case.fill(n, t) for n, t in shapes.items()}), strict=True)
    with torch.no_grad():
        losses = name_by_layer(model.losses(make_batch(case), make_noise(case))[0])
    assert set(losses) == set(recorded["losses"])
    for name, value in losses.items():
        tolerance = 1e-3 if name == "loss_enc_global_contra" else 1e-4
        assert value.item() == pytest.approx(recorded["losses"][name], rel=1e-4, abs=tolerance), name
