"""Published names, and the way from pre-training to a detector."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from sor_ppa.checkpoint import SORCheckpointer, convert_published
from sor_ppa.checkpoint.siamese_detr import COCO_CATEGORY_IDS, coco_rows, to_detector
from tests.detr import manifest
from tests.siamese_detr.tiny import TRANSFORMERS, tiny_cfg


def test_our_names_pass_through():
    ours = build_model(tiny_cfg("SiameseDETR")).state_dict()
    assert list(convert_published(ours, "siamese_detr")) == list(ours)


def test_the_published_classifier_of_the_backbone_is_dropped():
    dropped = {"module.backbone.fc.weight": 1, "module.backbone.bn1.num_batches_tracked": 2}
    assert convert_published(dropped, "siamese_detr") == {}


@pytest.mark.parametrize(
    ("file", "kind"),
    [("pretrain_conditional_100q_state_dict", "conditional"), ("pretrain_vanilla_state_dict", "vanilla")],
)
def test_a_pre_training_becomes_what_the_published_tool_makes_of_it(file, kind):
    recorded, published = manifest("siamese_detr", "conversion")[kind], manifest("siamese_detr", file)
    detector = convert_published({name: name for name in published}, "conditional_detr")
    for new, old in recorded["renamed_outside_backbone"].items():
        assert detector[new] == old
    counters = {name for name in published if name.endswith("num_batches_tracked")}
    dropped = {*recorded["dropped"], "patch2query.weight", "patch2query.bias"} | counters
    assert set(published) - set(detector.values()) == dropped


def test_the_deformable_box_head_goes_to_every_layer():
    renamed = manifest("siamese_detr", "conversion")["deformable_ms"]["renamed_outside_backbone"]
    wanted = {k: v for k, v in renamed.items() if k.startswith("bbox_embed")}
    source = {name: name for name in {*wanted.values(), "query_embed.weight", "transformer.tgt_embed.weight"}}
    source |= {f"transformer.decoder.layers.{i}.norm1.weight": "" for i in range(6)}
    detector = to_detector(source)
    assert {k: v for k, v in detector.items() if k.startswith("bbox_embed")} == wanted


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_a_detector_starts_from_a_pre_training(transformer):
    pretrained = build_model(tiny_cfg("SiameseDETR", transformer)).state_dict()
    model = build_model(tiny_cfg("DETRDetector", transformer))
    result = model.load_state_dict(convert_published(pretrained, "conditional_detr"), strict=False)
    assert result.unexpected_keys == []
    assert all(key.startswith("class_embed") for key in result.missing_keys)


def test_the_trainer_loads_a_pre_training_into_a_ranking_detector(tmp_path):
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


def test_coco_rows_keep_the_eighty_categories():
    assert len(COCO_CATEGORY_IDS) == 80
    weight = torch.arange(91.0)[:, None]
    reduced = coco_rows({"class_embed.weight": weight, "other": weight})
    assert reduced["class_embed.weight"][:, 0].tolist() == COCO_CATEGORY_IDS
    assert len(reduced["other"]) == 91
