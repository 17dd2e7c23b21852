"""Backbones published elsewhere compute here what they compute there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn

from sor_ppa import add_sor_config
from sor_ppa.checkpoint import SORCheckpointer


class Detector(nn.Module):
    """A backbone where detectors have it."""

    def __init__(self, bottom_up: nn.Module) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.bottom_up = bottom_up


def random_statistics(model: nn.Module) -> nn.Module:
    """Give every batch norm statistics that matter."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.num_features, generator=generator) + 0.5)
    return model.eval()


def backbone(name: str, *options: object) -> nn.Module:
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", name, "MODEL.BACKBONE.FREEZE_AT", 0, *options])
    return build_backbone(cfg, ShapeSpec(channels=3)).eval()


def assert_same_features(ours: nn.Module, theirs: nn.Module, names: list[str], folder: Path, get) -> None:
    torch.save(random_statistics(theirs).state_dict(), folder / "w.pth")
    checkpointer = SORCheckpointer(Detector(ours))
    checkpointer.load(str(folder / "w.pth"), complete=True)
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
    import timm

    stages = ["stage2", "stage3", "stage4", "stage5"]
    model = timm.create_model(theirs)

    def features(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
        x, found = model.stem(image), []
        for stage in model.stages:
            x = stage(x)
            found.append(x)
        return found

    ours = backbone(
        "build_vovnet_backbone", "MODEL.VOVNET.CONV_BODY", body, "MODEL.VOVNET.OUT_FEATURES", stages
    )
    assert_same_features(ours, model, stages, tmp_path, features)


def resnet_features(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    x = model.maxpool(torch.relu(model.bn1(model.conv1(image))))
    found = []
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = layer(x)
        found.append(x)
    return found


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_resnet(source: str, tmp_path: Path) -> None:
    import timm
    import torchvision

    theirs = timm.create_model("resnet50") if source == "timm" else torchvision.models.resnet50()
    ours = backbone(
        "build_resnet_backbone",
        *(
            "MODEL.RESNETS.STRIDE_IN_1X1",
            False,
            "MODEL.RESNETS.OUT_FEATURES",
            ["res2", "res3", "res4", "res5"],
        ),
    )
    assert_same_features(ours, theirs, ["res2", "res3", "res4", "res5"], tmp_path, resnet_features)


def test_strides_in_the_wrong_place_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    import torchvision

    torch.save(torchvision.models.resnet50().state_dict(), tmp_path / "w.pth")
    ours = backbone(
        "build_resnet_backbone", "MODEL.RESNETS.STRIDE_IN_1X1", True, "MODEL.RESNETS.OUT_FEATURES", ["res5"]
    )
    SORCheckpointer(Detector(ours)).load(str(tmp_path / "w.pth"))
    assert [r for r in caplog.records if "STRIDE_IN_1X1" in r.message]


def test_torchvision_mobilenet(tmp_path: Path) -> None:
    import torchvision

    def features(model: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
        x, found = image, []
        for i, layer in enumerate(model.features[:18]):
            x = layer(x)
            if i in (3, 6, 13, 17):
                found.append(x)
        return found

    ours = backbone("build_mnv2_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"])
    names = ["res2", "res3", "res4", "res5"]
    assert_same_features(ours, torchvision.models.mobilenet_v2(), names, tmp_path, features)
