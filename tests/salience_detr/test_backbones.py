"""Swin and ConvNeXt pyramids."""

from __future__ import annotations

import pytest
import torch

from sor_ppa.salience_detr.backbones import ARCHITECTURES, FeatureListBackbone


@pytest.mark.parametrize("name", ["swin_t", "convnext_t"])
@torch.no_grad()
def test_pyramid_backbones(name: str) -> None:
    backbone = FeatureListBackbone(ARCHITECTURES[name], ["res3", "res5"], 0.0).eval()
    backbone.freeze(2)
    maps = backbone(torch.rand(1, 3, 64, 96))
    shapes = {k: tuple(v.shape) for k, v in maps.items()}
    assert shapes == {"res3": (1, 192, 8, 12), "res5": (1, 768, 2, 3)}
    frozen = {n.split(".")[1] for n, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {"0", "1", "2"}
