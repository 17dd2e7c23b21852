"""Transformers that segment and rank: training, results, and results that do not depend on the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances

from tests.centermask.test_batches import SIZES, images
from tests.detr import labelled, picture
from tests.salience_detr.test_detector import small
from tests.siamese_detr.tiny import tiny_cfg

DETECTORS = ("salience", "vanilla", "conditional", "deformable")
FIELDS = ("scores", "mask_scores", "pred_rank_scores")


def build(name: str) -> Any:
    torch.manual_seed(0)
    cfg = small("ppa_salience_detr_R_50.yaml") if name == "salience" else tiny_cfg("RankingDETR", name)
    return build_model(cfg)


def lively(name: str) -> Any:
    """A small model whose random weights tell objects apart."""
    model = build(name).eval()
    with torch.no_grad():
        for key, value in model.named_parameters():
            if value.dim() > 1 and ("class_head" in key or "class_embed" in key):
                value.normal_(std=0.3)
            if value.dim() > 1 and ("bbox_head" in key or "bbox_embed" in key):
                value.normal_(std=0.1)
        model.roi_heads.sor_head.sor.weight.mul_(50)
        model.roi_heads.mask_head.predictor.weight.mul_(20)
    if name == "salience":
        model.score_thresh = 0.02
    return model


def sizes(name: str) -> list[tuple[int, int]]:
    """Group normalization of 32 channels in 32 groups wants more than one cell on the coarsest map."""
    return [(max(h, 100), max(w, 100)) for h, w in SIZES] if name == "deformable" else SIZES


@torch.no_grad()
def answers(model: Any, batch: Sequence[dict]) -> list[Instances]:
    return [result["instances"] for result in model(batch)]


def same(one: Instances, other: Instances) -> None:
    assert len(one) == len(other)
    assert one.pred_ranks.tolist() == other.pred_ranks.tolist()
    torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-3, rtol=1e-4)
    for field in FIELDS:
        torch.testing.assert_close(one.get(field), other.get(field), atol=1e-4, rtol=1e-4)
    if len(one):
        assert (one.pred_masks != other.pred_masks).float().mean() < 1e-3


@pytest.mark.parametrize("name", DETECTORS)
def test_a_step_trains_detector_masks_and_ranks(name: str) -> None:
    model = build(name).train()
    first = labelled(96, 128, [[5.0, 5, 60, 70], [70, 20, 120, 90]])
    losses = model([first, labelled(128, 100, [], seed=1)])
    assert {"loss_mask", "loss_maskiou", "sor_loss"} <= set(losses)
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize("name", DETECTORS)
def test_results_have_masks_and_ranks_at_the_original_size(name: str) -> None:
    model = lively(name)
    (found,) = answers(model, [{"image": picture(96, 128), "height": 48, "width": 64}])
    assert len(found) > 0
    assert found.pred_masks.shape == (len(found), 48, 64)
    assert found.mask_scores.shape == (len(found),)
    assert found.pred_masks.dtype == torch.bool
    assert found.pred_ranks.dtype == torch.int64
    assert found.pred_rank_scores.dtype == torch.float32


@pytest.mark.parametrize("name", DETECTORS)
def test_neighbors_change_nothing(name: str) -> None:
    model, batch = lively(name), images(sizes(name))
    together = answers(model, batch)
    assert all(len(found) > 0 for found in together)
    assert name == "vanilla" or any((found.pred_ranks >= 0).any() for found in together)
    for item, found in zip(batch, together, strict=True):
        same(answers(model, [item])[0], found)
    for found, other in zip(together, answers(model, batch[::-1])[::-1], strict=True):
        same(found, other)


@pytest.mark.parametrize("name", DETECTORS)
def test_an_image_without_detections_among_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = lively(name), images([(128, 128), (128, 128)])
    alone = answers(model, batch[1:])[0]
    method = "instances" if name == "salience" else "detections"
    real = getattr(model, method)

    def first_sees_nothing(*arguments: Any) -> list[Instances]:
        found = real(*arguments)
        return [found[0][:0], *found[1:]]

    monkeypatch.setattr(model, method, first_sees_nothing)
    empty, other = answers(model, batch)
    assert len(empty) == 0
    assert empty.pred_masks.shape == (0, 128, 128)
    assert all(empty.has(field) for field in (*FIELDS, "pred_boxes", "pred_classes", "pred_ranks"))
    same(alone, other)


@pytest.mark.parametrize("name", DETECTORS)
def test_whole_numbers_and_memory_layout_change_nothing(name: str) -> None:
    model = lively(name)
    (item,) = images([(100, 131)])
    whole = item["image"].round()
    expected = answers(model, [{**item, "image": whole}])[0]
    rows_first = whole.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for image in (whole.to(torch.uint8), rows_first):
        same(expected, answers(model, [{**item, "image": image}])[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(65, 4000), (4000, 65)])
def test_sizes_up_to_4000(name: str, size: tuple[int, int]) -> None:
    model = lively(name)
    height, width = (max(side, 100) for side in size) if name == "deformable" else size
    batch = images([(128, 128), (height, width), (128, 128)])
    same(answers(model, batch[1:2])[0], answers(model, batch)[1])
