"""Backbones published elsewhere compute here what they compute there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from sor_ppa.checkpoint import SORCheckpointer
from tests.models import make_cfg

STAGES = ["stage2", "stage3", "stage4", "stage5"]
LEVELS = ["res2", "res3", "res4", "res5"]


class Detector(nn.Module):
    """A backbone where detectors have it."""

    def __init__(self, bottom_up: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.bottom_up = bottom_up


def backbone(name: str, *options: object) -> nn.Module:
    cfg = make_cfg()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.FREEZE_AT", 0, *options])
    return build_backbone(cfg, ShapeSpec(channels=3)).eval()


def outputs(x: torch.Tensor, modules: Iterable[nn.Module]) -> list[torch.Tensor]:
    found = []
    for module in modules:
        x = module(x)
        found.append(x)
    return found


def assert_same_features(ours: nn.Module, theirs: nn.Module, names: list[str], folder: Path, get) -> None:
    generator = torch.Generator().manual_seed(1)
    for module in theirs.eval().modules():  # statistics that matter
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    torch.save(theirs.state_dict(), folder / "w.pth")
    SORCheckpointer(Detector(ours)).load(str(folder / "w.pth"), complete=True)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():  # in doubles: random weights make features of thousands, whose rounding shows
        found, expected = ours.double()(image), get(theirs.double(), image)
    for name, tensor in zip(names, expected, strict=True):
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("theirs", "body"),
    [
        ("ese_vovnet39b", "V-39-eSE"),
        pytest.param("ese_vovnet57b", "V-57-eSE", marks=pytest.mark.slow),
        ("ese_vovnet19b_dw", "V-19-dw-eSE"),
        ("ese_vovnet19b_slim_dw", "V-19-slim-dw-eSE"),
        ("ese_vovnet19b_slim", "V-19-slim-eSE"),
    ],
)
def test_timm_vovnet(theirs: str, body: str, tmp_path: Path) -> None:
    options = ("MODEL.VOVNET.CONV_BODY", body, "MODEL.VOVNET.OUT_FEATURES", STAGES)
    ours = backbone("build_vovnet_backbone", *options)
    model = timm.create_model(theirs)
    assert_same_features(ours, model, STAGES, tmp_path, lambda m, image: outputs(m.stem(image), m.stages))


def resnet(stride_in_1x1: bool) -> nn.Module:
    options = ("MODEL.RESNETS.STRIDE_IN_1X1", stride_in_1x1, "MODEL.RESNETS.OUT_FEATURES", LEVELS)
    return backbone("build_resnet_backbone", *options)


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_resnet(source: str, tmp_path: Path) -> None:
    def features(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
        stem = model.maxpool(torch.relu(model.bn1(model.conv1(image))))
        return outputs(stem, (model.layer1, model.layer2, model.layer3, model.layer4))

    theirs = timm.create_model("resnet50") if source == "timm" else torchvision.models.resnet50()
    assert_same_features(resnet(stride_in_1x1=False), theirs, LEVELS, tmp_path, features)


def test_strides_in_the_wrong_place_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "w.pth")
    SORCheckpointer(Detector(resnet(stride_in_1x1=True))).load(str(tmp_path / "w.pth"))
    assert [r for r in caplog.records if "STRIDE_IN_1X1" in r.message]


def test_torchvision_mobilenet(tmp_path: Path) -> None:
    def features(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
        found = outputs(image, model.features[:18])
        return [found[i] for i in (3, 6, 13, 17)]

    ours = backbone("build_mnv2_backbone", "MODEL.RESNETS.OUT_FEATURES", LEVELS)
    assert_same_features(ours, torchvision.models.mobilenet_v2(), LEVELS, tmp_path, features)
