"""Published names, and the way from pre-training to a detector."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.modeling import build_model

from sor_ppa.checkpoint import convert_published
from sor_ppa.checkpoint.siamese_detr import COCO_CATEGORY_IDS, coco_rows, resnet_name, to_detector
from tests.parity import parity_dir

from .published import make_cfg
from .tiny import LEVELS, tiny_cfg


def names(name: str) -> list[str]:
    return list(json.loads((parity_dir("siamese_detr") / name).read_text()))


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_var", "stem.conv1.norm.running_var"),
        ("layer3.5.conv2.weight", "res4.5.conv2.weight"),
        ("layer1.0.bn3.bias", "res2.0.conv3.norm.bias"),
        ("layer2.0.downsample.0.weight", "res3.0.shortcut.weight"),
        ("layer2.0.downsample.1.weight", "res3.0.shortcut.norm.weight"),
        ("something.else", "something.else"),
    ],
)
def test_resnet_names(published, ours):
    assert resnet_name(published) == ours


def test_our_names_pass_through():
    ours = build_model(tiny_cfg("SiameseDETR")).state_dict()
    assert list(convert_published(ours, "siamese_detr")) == list(ours)


def test_the_published_classifier_of_the_backbone_is_dropped():
    assert (
        convert_published(
            {"module.backbone.fc.weight": 1, "backbone.bn1.num_batches_tracked": 2}, "siamese_detr"
        )
        == {}
    )


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("pretrain_conditional_100q_state_dict.json", "conditional"),
        ("pretrain_vanilla_state_dict.json", "vanilla"),
    ],
)
def test_a_pre_training_becomes_what_the_published_tool_makes_of_it(file, kind):
    recorded = json.loads((parity_dir("siamese_detr") / "conversion.json").read_text())[kind]
    published = names(file)
    detector = convert_published({name: name for name in published}, "conditional_detr")
    for new, old in recorded["renamed_outside_backbone"].items():
        assert detector[new] == old
    dropped = {value for value in published if value not in set(detector.values())}
    assert dropped == set(recorded["dropped"]) | {"patch2query.weight", "patch2query.bias"} | {
        name for name in published if name.endswith("num_batches_tracked")
    }


def test_the_deformable_box_head_goes_to_every_layer():
    recorded = json.loads((parity_dir("siamese_detr") / "conversion.json").read_text())["deformable_ms"]
    wanted = {k: v for k, v in recorded["renamed_outside_backbone"].items() if k.startswith("bbox_embed")}
    source = {name: name for name in {*wanted.values(), "query_embed.weight", "transformer.tgt_embed.weight"}}
    source |= {f"transformer.decoder.layers.{i}.norm1.weight": "" for i in range(6)}
    detector = to_detector(source)
    assert {k: v for k, v in detector.items() if k.startswith("bbox_embed")} == wanted


@pytest.mark.parametrize("transformer", LEVELS)
def test_a_detector_starts_from_a_pre_training(transformer):
    pretrained = build_model(tiny_cfg("SiameseDETR", transformer)).state_dict()
    model = build_model(tiny_cfg("DETRDetector", transformer))
    result = model.load_state_dict(convert_published(pretrained, "conditional_detr"), strict=False)
    assert result.unexpected_keys == []
    assert all(key.startswith("class_embed") for key in result.missing_keys)


def test_the_trainer_loads_a_pre_training_into_a_ranking_detector(tmp_path):
    from sor_ppa.checkpoint import SORCheckpointer

    source = build_model(tiny_cfg("SiameseDETR"))
    torch.save({"model": source.state_dict()}, tmp_path / "pre.pth")
    model = build_model(tiny_cfg("RankingDETR"))
    SORCheckpointer(model).load(str(tmp_path / "pre.pth"))
    for name in ("query_embed.weight", "transformer.decoder.norm.weight", "input_proj.weight"):
        assert torch.equal(model.state_dict()[name], source.state_dict()[name])
    assert torch.equal(model.bbox_embed.last.weight, source.pred_head.bbox_embed.last.weight)


def test_a_detector_is_no_pre_training():
    with pytest.raises(ValueError, match="expected a Siamese DETR pre-training"):
        to_detector({"query_embed.weight": 1})


def test_the_published_detector_has_our_names():
    ours = build_model(make_cfg("DETRDetector", NUM_CLASSES=91)).state_dict()
    published = names("conditional_detr_100q_coco_state_dict.json")
    assert set(convert_published(dict.fromkeys(published), "conditional_detr")) == set(ours)


def test_coco_rows_keep_the_eighty_categories():
    assert len(COCO_CATEGORY_IDS) == 80
    weight = torch.arange(91.0)[:, None]
    reduced = coco_rows({"class_embed.weight": weight, "other": weight})
    assert reduced["class_embed.weight"][:, 0].tolist() == COCO_CATEGORY_IDS
    assert len(reduced["other"]) == 91
