"""Naming a model: a file, a zoo entry, or the ranker without weights."""

from types import SimpleNamespace

import pytest
import torch

import sor_ppa.pretrained
from sor_ppa.config import ConfigError
from sor_ppa.predictor import SORPredictor
from sor_ppa.pretrained import find_pretrained
from sor_ppa.zoo import ZooError
from tests.models import REPO, make_cfg

DEMO = str(REPO / "configs/sor/demo.yaml")


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "model_final.pth"
    torch.save({"model": SORPredictor(make_cfg(DEMO)).model.state_dict()}, file)
    return str(file)


def test_the_configuration_in_a_checkpoint_is_used(weights, monkeypatch):
    info = SimpleNamespace(config=make_cfg(DEMO).dump(), class_names=("thing",), version="0")
    monkeypatch.setattr(sor_ppa.pretrained, "read_checkpoint_info", lambda path: info)
    cfg, names = find_pretrained(weights, options=["TEST.IMS_PER_BATCH", "3"])
    assert names == ("thing",)
    assert weights == cfg.MODEL.WEIGHTS
    assert make_cfg(DEMO).MODEL.VOVNET == cfg.MODEL.VOVNET
    assert cfg.TEST.IMS_PER_BATCH == 3
    info.config = "MODEL: {NO_SUCH_KEY: 1}"
    with pytest.raises(ConfigError, match=r"model_final\.pth: its configuration: .*NO_SUCH_KEY"):
        find_pretrained(weights)


def test_a_file_without_configuration_needs_one(weights, monkeypatch):
    monkeypatch.setattr(sor_ppa.pretrained, "read_checkpoint_info", lambda path: None)
    with pytest.raises(ConfigError, match=r"model_final\.pth: .* found weights alone; name its YAML file"):
        SORPredictor.from_pretrained(weights)
    cfg, _ = find_pretrained(weights, DEMO)
    assert weights == cfg.MODEL.WEIGHTS


def test_zoo_names_are_resolved(weights, monkeypatch):
    monkeypatch.setattr(sor_ppa.pretrained, "resolve", {"ppa-v39": weights}.__getitem__)
    assert weights == find_pretrained("ppa-v39", DEMO)[0].MODEL.WEIGHTS


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"expected a checkpoint or an exported model, found a folder"):
        find_pretrained(str(tmp_path))


def test_unknown_names_are_one_line():
    with pytest.raises(ZooError, match=r"^nowhere: expected "):
        SORPredictor.from_pretrained("nowhere")
