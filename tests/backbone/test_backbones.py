"""Backbones and pyramids by their registered names, with the published parameter names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.modeling import build_backbone

from sor_ppa.checkpoint import convert_published
from sor_ppa.checkpoint.sor import published_to_ours
from tests.models import make_cfg

BODIES = ["V-19-slim-dw-eSE", "V-19-dw-eSE", "V-19-slim-eSE", "V-19-eSE", "V-39-eSE", "V-57-eSE", "V-99-eSE"]


def backbone(name: str, **overrides: Any) -> Any:
    torch.manual_seed(0)
    return build_backbone(make_cfg(None, MODEL__BACKBONE__NAME=name, **overrides)).eval()


def shapes(model: Any, height: int = 96, width: int = 64) -> dict[str, tuple[int, ...]]:
    with torch.no_grad():
        return {name: tuple(value.shape) for name, value in model(torch.zeros(1, 3, height, width)).items()}


@pytest.mark.parametrize("body", BODIES)
def test_every_vovnet_feeds_the_pyramid_of_fcos(body: str) -> None:
    model = backbone(
        "build_fcos_vovnet_fpn_backbone",
        MODEL__VOVNET__CONV_BODY=body,
        MODEL__VOVNET__OUT_FEATURES=["stage3", "stage4", "stage5"],
        MODEL__FPN__IN_FEATURES=["stage3", "stage4", "stage5"],
        MODEL__FPN__OUT_CHANNELS=16,
        MODEL__FCOS__TOP_LEVELS=2,
    )
    assert shapes(model, 128, 64) == {
        f"p{level}": (1, 16, 128 // 2**level, max(64 // 2**level, 1)) for level in range(3, 8)
    }
    assert {name: shape.stride for name, shape in model.output_shape().items()} == {
        f"p{level}": 2**level for level in range(3, 8)
    }


RES, STAGES = ["res2", "res3", "res4", "res5"], ["stage2", "stage3", "stage4", "stage5"]
FCOS_RESNET = "build_fcos_resnet_fpn_backbone"


@pytest.mark.parametrize(
    ("name", "features", "options", "levels", "body"),
    [
        ("build_fcos_mobilenetv2_fpn_backbone", RES[1:], {"FCOS__TOP_LEVELS": 1}, "3456", "MobileNetV2"),
        (FCOS_RESNET, RES[1:], {"MOBILENET": True, "FCOS__TOP_LEVELS": 1}, "3456", "MobileNetV2"),
        (FCOS_RESNET, RES[1:], {"RESNETS__DEPTH": 50, "FCOS__TOP_LEVELS": 0}, "345", "ResNet"),
        (FCOS_RESNET, RES[1:], {"RESNETS__DEPTH": 101, "FCOS__TOP_LEVELS": 0}, "345", "ResNet"),
        ("build_vovnet_fpn_backbone", STAGES, {"VOVNET__CONV_BODY": "V-19-slim-eSE"}, "23456", "VoVNet"),
        ("build_mobilenetv2_fpn_backbone", RES, {}, "23456", "MobileNetV2"),
    ],
)
def test_pyramids_by_their_published_names(
    name: str, features: list[str], options: dict[str, Any], levels: str, body: str
) -> None:
    model = backbone(
        name,
        MODEL__RESNETS__OUT_FEATURES=features,
        MODEL__FPN__IN_FEATURES=features,
        MODEL__FPN__OUT_CHANNELS=16,
        **{f"MODEL__{key}": value for key, value in options.items()},
    )
    assert list(shapes(model)) == [f"p{level}" for level in levels]
    assert type(model.bottom_up).__name__ == body


@pytest.mark.parametrize("modulated", [True, False])
def test_deformable_layers_have_the_published_names(modulated: bool) -> None:
    model = backbone(
        "build_vovnet_backbone",
        MODEL__VOVNET__CONV_BODY="V-19-slim-eSE",
        MODEL__VOVNET__STAGE_WITH_DCN=(False, True, True, True),
        MODEL__VOVNET__WITH_MODULATED_DCN=modulated,
    )
    state = model.state_dict()
    published = "stage3.OSA3_1.layers.1.OSA3_1_1/conv_offset.weight"
    offsets = state[published_to_ours(published)]
    assert offsets.shape[0] == (27 if modulated else 18)
    assert published_to_ours("stage3.OSA3_1.layers.1.OSA3_1_1/conv.weight") in state
    assert set(convert_published({published: offsets}, system="sor")) < set(state)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model(image)["stage3"]
        offsets.add_(0.05)
        assert not torch.equal(model(image)["stage3"], before)


def test_deformable_layers_without_offsets_convolve() -> None:
    options = {"MODEL__VOVNET__CONV_BODY": "V-19-slim-eSE"}
    plain = backbone("build_vovnet_backbone", **options)
    moved = backbone(
        "build_vovnet_backbone", MODEL__VOVNET__STAGE_WITH_DCN=(False, True, False, False), **options
    )
    missing = moved.load_state_dict(plain.state_dict(), strict=False)
    assert missing.missing_keys
    assert all(".conv_offset." in name for name in missing.missing_keys)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(moved(image)["stage5"], plain(image)["stage5"], atol=1e-4, rtol=1e-4)
