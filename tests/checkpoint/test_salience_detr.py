"""Names of the published Salience-DETR."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model

from sor_ppa.checkpoint import SORCheckpointer, convert_published
from sor_ppa.checkpoint.salience_detr import published_to_ours
from tests.salience_detr.reference import STATE, base_config, info


@pytest.mark.parametrize(
    ("published_name", "ours"),
    [
        ("backbone.0.features.3.1.attn.qkv.weight", "backbone.features.3.1.attn.qkv.weight"),
        ("backbone.0.patch_embed.proj.bias", "backbone.net.stem.proj.bias"),
        ("backbone.0.layers.1.downsample.norm.bias", "backbone.net.layers.2.downsample.norm.bias"),
        ("backbone.0.layers.2.blocks.17.gamma_2", "backbone.net.layers.2.blocks.17.ls2.gamma"),
        ("backbone.0.layers.0.blocks.1.norm1.weight", "backbone.net.layers.0.blocks.1.norm1_post.weight"),
        ("backbone.1.norm3.bias", "backbone.norms.3.bias"),
    ],
)
def test_names_of_other_backbones(published_name: str, ours: str) -> None:
    assert published_to_ours(published_name) == ours
    assert published_to_ours(ours) == ours


def test_linear_layers_of_focalnet_become_convolutions() -> None:
    state = {"backbone.0.layers.0.blocks.0.modulation.f.weight": torch.zeros(5, 3)}
    (weight,) = convert_published(state, "salience_detr").values()
    assert weight.shape == (5, 3, 1, 1)


def test_the_checkpointer_reads_published_files(tmp_path: Path) -> None:
    published: Any = build_model(base_config())
    torch.manual_seed(1)
    state = {e[0]: torch.rand(e[1]) for e in info(STATE)} | {"_classes_": torch.zeros(3, dtype=torch.int64)}
    converted = convert_published(state, "salience_detr")
    assert converted.keys() == published.state_dict().keys()
    assert convert_published(converted, "salience_detr").keys() == converted.keys()
    torch.save({"model": state}, tmp_path / "best_ap.pth")
    SORCheckpointer(published).load(str(tmp_path / "best_ap.pth"), checkpointables=[])
    assert torch.equal(published.transformer.salience.alpha, state["transformer.alpha"])
    assert torch.equal(published.backbone.res5[2].conv3.weight, state["backbone.layer4.2.conv3.weight"])
