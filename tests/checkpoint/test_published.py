"""Published checkpoints into our models: every name, every shape."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from sor_ppa.checkpoint import Checkpoint, Fit, SORCheckpointer, convert_published, fit_to_model
from sor_ppa.checkpoint.match import CLASS_LAYERS
from tests.models import make_cfg
from tests.parity import parity_dir


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    """Names and shapes of the published SOR model; each tensor is one number, expanded."""
    names = json.loads((parity_dir("ppa") / "state_ppa_v39.json").read_text())["tensors"]
    return {name: torch.tensor(i / 1000).expand(shape) for i, (name, shape) in enumerate(names)}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model(make_cfg())


def fit(tensors: dict[str, torch.Tensor], model: nn.Module) -> Fit:
    return fit_to_model(Checkpoint(tensors, "torch"), model.state_dict())


def test_names_and_shapes_are_those_of_our_model(
    published: dict[str, torch.Tensor], model: nn.Module
) -> None:
    ours = {n: t.shape for n, t in model.state_dict().items() if not n.startswith("pixel_")}
    assert {n: t.shape for n, t in convert_published(published).items()} == ours


@pytest.mark.slow
@pytest.mark.parametrize("legacy", [False, True])
def test_sor_checkpoint_loads_whole(
    legacy: bool, published: dict[str, torch.Tensor], model: nn.Module, tmp_path: Path
) -> None:
    saved = {"model": {n: t.half() for n, t in published.items()}, "optimizer": {"state": {}}, "iteration": 9}
    torch.save(saved, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    rest = SORCheckpointer(model).load(str(tmp_path / "w.pth"), checkpointables=[], complete=True)
    assert rest["iteration"] == 9
    loaded = model.state_dict()
    for name, tensor in convert_published(saved["model"]).items():
        assert torch.equal(loaded[name], tensor.float())


def test_centermask_checkpoint_initializes_all_but_classes_and_ranking(
    published: dict[str, torch.Tensor], model: nn.Module
) -> None:
    coco = {
        n: t[:1].expand(80, *t.shape[1:]) if CLASS_LAYERS.search(n) else t
        for n, t in published.items()
        if "sor_head" not in n
    }
    found = fit(coco, model)
    assert {name.rpartition(".")[0] for name in found.resized} == {
        "proposal_generator.fcos_head.cls_logits",
        "roi_heads.mask_head.predictor",
        "roi_heads.maskiou_head.maskiou",
    }
    assert "left out: 80 rows in the file, 1 in the model" in found.table()
    assert found.missing
    assert all(n.startswith("roi_heads.sor_head.") for n in found.missing)
    assert not found.unused


def test_vovnet_of_centermask_loads_into_the_backbone(
    published: dict[str, torch.Tensor], model: nn.Module
) -> None:
    prefix = "backbone.bottom_up."
    bare = {n.removeprefix(prefix): t for n, t in published.items() if n.startswith(prefix)}
    found = fit(bare, model)
    assert set(found.loaded) == {n for n in model.state_dict() if n.startswith(prefix)}
    assert not found.unused


def mask_rcnn(classes: int) -> nn.Module:
    """detectron2's Mask R-CNN with FPN, with narrow fully connected layers."""
    cfg = make_cfg(
        "configs/sor/exp/maskrcnn.yaml",
        MODEL__META_ARCHITECTURE="GeneralizedRCNN",
        MODEL__ROI_HEADS__NAME="StandardROIHeads",
        MODEL__ROI_HEADS__NUM_CLASSES=classes,
        MODEL__ROI_BOX_HEAD__FC_DIM=8,
    )
    return build_model(cfg)


def test_mask_rcnn_of_the_model_zoo_loads(tmp_path: Path) -> None:
    state = {n: t.numpy() for n, t in mask_rcnn(80).state_dict().items()}
    state["pixel_mean"] = np.zeros((3, 1, 1), np.float32)
    state["proposal_generator.anchor_generator.cell_anchors.0"] = np.zeros((3, 4), np.float32)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"}))
    checkpointer = SORCheckpointer(mask_rcnn(1))
    checkpointer.load(str(tmp_path / "w.pkl"))
    found = checkpointer.fit
    assert found is not None
    assert not found.missing
    assert not found.unused
    assert {n.rpartition(".")[0] for n in found.resized} == {
        "roi_heads.box_predictor.cls_score",
        "roi_heads.box_predictor.bbox_pred",
        "roi_heads.mask_head.predictor",
    }


def caffe2_name(name: str) -> str:
    """detectron2's name of a ResNet parameter -> that of the Caffe2 blob in MSRA's files."""
    for ours, blob in {
        "stem.conv1.norm": "res_conv1_bn",
        "stem.conv1": "conv1",
        ".shortcut.norm": "_branch1_bn",
        ".shortcut": "_branch1",
        **{f".conv{n}.norm": f"_branch2{c}_bn" for n, c in zip("123", "abc", strict=True)},
        **{f".conv{n}": f"_branch2{c}" for n, c in zip("123", "abc", strict=True)},
    }.items():
        name = name.replace(ours, blob)
    for ours, blob in {"_bn.weight": "_bn_s", "_bn.bias": "_bn_b", ".weight": "_w", ".": "_"}.items():
        name = name.replace(ours, blob)
    return name


@pytest.mark.parametrize("wrapped", [False, True])
def test_caffe2_resnet_of_the_model_zoo_loads(wrapped: bool, tmp_path: Path) -> None:
    model = mask_rcnn(1)
    prefix = "backbone.bottom_up."
    bare = {n.removeprefix(prefix): t for n, t in model.state_dict().items() if n.startswith(prefix)}
    blobs = {caffe2_name(n): np.full(t.shape, 0.5, "f4") for n, t in bare.items() if "running" not in n}
    blobs |= {"fc1000_w": np.zeros((1000, 2048), "f4"), "conv1_w_momentum": np.zeros(1, "f4")}
    saved = {"model": blobs, "matching_heuristics": True} if wrapped else {"blobs": blobs}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(saved, 2))
    checkpointer = SORCheckpointer(model)
    checkpointer.load(str(tmp_path / "R-50.pkl"))
    assert checkpointer.fit is not None
    assert set(checkpointer.fit.loaded) == {prefix + n for n in bare if "running" not in n}
    assert checkpointer.fit.unused == ("fc1000.weight",)
    assert not [n for n in checkpointer.fit.incomplete if n.startswith(prefix)]
    assert model.backbone.bottom_up.res2[0].conv1.weight.unique().tolist() == [0.5]
