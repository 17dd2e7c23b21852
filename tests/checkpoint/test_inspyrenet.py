"""Published checkpoints load into our model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from sor_ppa.checkpoint import SORCheckpointer, convert_published
from sor_ppa.inspyrenet.meta_arch import load_backbone
from sor_ppa.inspyrenet.network import InSPyReNetNetwork, build_encoder
from tests.inspyrenet.fixtures import published_shapes
from tests.inspyrenet.test_meta_arch import config


@pytest.mark.parametrize(
    ("model", "backbone"), [("InSPyReNet_Res2Net50", "res2net50"), ("InSPyReNet_SwinB", "swin_b")]
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_published_parameter_has_its_place(model: str, backbone: str, prefix: str) -> None:
    shapes = {prefix + name: tuple(shape) for name, shape in published_shapes(model).items()}
    converted = convert_published(shapes, system="inspyrenet")
    with torch.device("meta"):
        network = InSPyReNetNetwork(build_encoder(backbone))
    ours = {f"network.{name}": tuple(value.shape) for name, value in network.state_dict().items()}
    assert converted == ours
    assert convert_published(ours, system="inspyrenet") == ours


def test_a_published_file_loads_into_the_built_model(tmp_path: Path) -> None:
    model = build_model(config("inspyrenet_res2net50", "MODEL.INSPYRENET.BASE_SIZE", 64))
    published = {name: torch.full_like(value, 0.5) for name, value in model.network.state_dict().items()}
    torch.save(published, tmp_path / "latest.pth")
    SORCheckpointer(model).load(str(tmp_path / "latest.pth"))
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, published[name]), name


@pytest.mark.parametrize("backbone", ["res2net50", "swin_b"])
def test_a_classifier_gives_its_encoder(tmp_path: Path, backbone: str) -> None:
    torch.manual_seed(0)
    source, target = build_encoder(backbone), InSPyReNetNetwork(build_encoder(backbone))
    state = {name: value for name, value in source.state_dict().items() if not name.startswith("norm")}
    extra = {"fc.weight": torch.zeros(3, 3), "head.bias": torch.zeros(3), "norm.weight": torch.zeros(3)}
    if backbone == "swin_b":
        extra["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 144, 144)
        extra["layers.0.blocks.1.attn.relative_position_index"] = torch.zeros(144, 144, dtype=torch.int64)
    torch.save({"model": {**state, **extra}}, tmp_path / "encoder.pth")
    load_backbone(target, str(tmp_path / "encoder.pth"))
    loaded = target.backbone.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


def test_a_file_of_another_encoder_is_refused(tmp_path: Path) -> None:
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises((ValueError, RuntimeError), match=r"other\.pth|size mismatch"):
        load_backbone(InSPyReNetNetwork(build_encoder("res2net50")), str(tmp_path / "other.pth"))
