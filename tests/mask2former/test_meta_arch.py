"""Mask2Former in the tools that all models share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import BitMasks, Instances, PolygonMasks

from sor_ppa import SORPredictor
from sor_ppa.building import build_checked_model
from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.config import ConfigError
from tests.detr import labelled, picture
from tests.mask2former.models import small_config, small_ranker


def test_published_optimizer_groups() -> None:
    rates = ("SOLVER.BACKBONE_MULTIPLIER", 0.1, "SOLVER.BASE_LR", 0.01)
    cfg = small_config(*rates, "MODEL.MASK_FORMER.SEEDS", False)
    model = build_checked_model(cfg)
    groups = {id(p): (g["lr"], g["weight_decay"]) for g in model.parameter_groups(cfg) for p in g["params"]}
    assert len(groups) == sum(p.requires_grad for p in model.parameters())
    found = {name: groups[id(p)] for name, p in model.named_parameters()}
    assert found["backbone.stem.0.conv.weight"] == pytest.approx((0.001, 0.05))
    assert found["decoder.query_feat.weight"] == (0.01, 0.0)
    assert found["decoder.layers.0.norm1.weight"] == (0.01, 0.0)
    assert found["pixel_decoder.level_embed"] == (0.01, 0.05)


def test_polygons_and_bitmaps_are_the_same_targets() -> None:
    model = small_ranker()
    corners = np.array([8.0, 8.0, 24.0, 8.0, 24.0, 40.0, 8.0, 40.0])
    bits = torch.zeros(1, 48, 64, dtype=torch.bool)
    bits[0, 8:40, 8:24] = True
    found = []
    for masks in (PolygonMasks([[corners]]), BitMasks(bits)):
        instances = Instances((48, 64), gt_masks=masks, gt_classes=torch.zeros(1, dtype=torch.int64))
        found.append(model.targets([{"instances": instances}], (64, 96)).masks)
    assert found[0].shape == (1, 64, 96)
    assert torch.equal(*found)


def test_an_image_without_objects_needs_no_masks() -> None:
    item = labelled(64, 96, [])
    item["instances"].remove("gt_masks")  # as detectron2's own mapper leaves it
    losses = small_ranker().train()([item])
    assert float(losses["loss_mask"]) == 0


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "SEM_SEG_HEAD.IN_FEATURES",
            ["stage3", "stage4", "stage5"],
            "expected a map of stride 4, found",
        ),
        ("SEM_SEG_HEAD.NORM", "foo", "expected a normalization"),
        ("SEM_SEG_HEAD.NUM_CLASSES", 0, "expected a whole number"),
    ],
)
def test_what_no_model_can_have_is_named(key: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"MODEL\.{key}: {said}"):
        build_checked_model(small_config(f"MODEL.{key}", value))


def test_an_unknown_class_is_refused() -> None:
    instances = Instances(
        (8, 8), gt_masks=BitMasks(torch.ones(1, 8, 8)), gt_classes=torch.ones(1, dtype=torch.int64)
    )
    with pytest.raises(ValueError, match=r"a.jpg: gt_classes: expected less than 1, found 1"):
        small_ranker().targets([{"instances": instances, "file_name": "a.jpg"}], (32, 32))


@pytest.mark.parametrize("meta", ["Mask2Former", "RankingMask2Former"])
def test_a_saved_model_predicts_from_its_file(tmp_path: Path, meta: str) -> None:
    cfg = small_config("MODEL.META_ARCHITECTURE", meta)
    torch.manual_seed(0)
    SORCheckpointer(build_checked_model(cfg), str(tmp_path)).save("model")
    (tmp_path / "config.yaml").write_text(cfg.dump())
    predictor = SORPredictor.from_pretrained(tmp_path / "model.pth", config=tmp_path / "config.yaml")
    result = predictor(picture(50, 70).permute(1, 2, 0).numpy())
    assert all(thing.mask.shape == (50, 70) for thing in result.objects)


def test_mixed_precision_trains_and_predicts() -> None:
    model = small_ranker("MODEL.MASK_FORMER.SEEDS", True)
    item = labelled(64, 96, [[4.0, 4.0, 30.0, 30.0]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.train()([item])
        found = model.eval()([item])[0]["instances"]
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert found.pred_rank_scores.dtype == torch.float32
