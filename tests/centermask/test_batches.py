"""The answer for an image is its own: alone, in a batch, small or large, upright or wide."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

from tests.models import make_cfg

SIZES = [(160, 208), (208, 160), (64, 64), (150, 200), (96, 320), (160, 208), (33, 47), (201, 121)]


def lively_model(config: str = "configs/sor/demo.yaml", **overrides: object) -> nn.Module:
    """A small model whose random weights see objects."""
    torch.manual_seed(0)
    cfg = make_cfg(
        config, MODEL__FCOS__INFERENCE_TH_TEST=0.3, MODEL__FCOS__POST_NMS_TOPK_TEST=12, **overrides
    )
    model = build_model(cfg).eval()
    see_objects(model.proposal_generator.fcos_head)
    with torch.no_grad():
        model.roi_heads.sor_head.sor.weight.mul_(50)
        model.roi_heads.mask_head.predictor.weight.mul_(200)
    return model


@torch.no_grad()
def see_objects(head: Any) -> None:
    """Let an FCOS head with random weights find objects of different confidence."""
    head.cls_logits.bias.zero_()
    head.cls_logits.weight.mul_(20)
    head.bbox_pred.bias.fill_(3.0)


def images(sizes: list[tuple[int, int]]) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"image": torch.rand((3, h, w), generator=generator) * 255, "height": h, "width": w} for h, w in sizes
    ]


def same(one: Instances, other: Instances) -> None:
    assert len(one) == len(other)
    assert one.pred_ranks.tolist() == other.pred_ranks.tolist()
    torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-2, rtol=1e-4)
    for field in ("scores", "mask_scores", "pred_rank_scores"):
        torch.testing.assert_close(one.get(field), other.get(field), atol=1e-4, rtol=1e-4)
    assert (one.pred_masks != other.pred_masks).float().mean() < 1e-3


@torch.no_grad()
def test_neighbors_change_nothing() -> None:
    model, batch = lively_model(), images(SIZES)
    together = [r["instances"] for r in model(batch)]
    assert all(len(x) > 0 for x in together)
    assert any((x.pred_ranks >= 0).any() for x in together)
    for item, result in zip(batch, together, strict=True):
        same(model([item])[0]["instances"], result)
    back = [r["instances"] for r in model(batch[::-1])][::-1]
    for one, other in zip(together, back, strict=True):
        same(one, other)


@torch.no_grad()
def test_images_without_detections_among_others() -> None:
    model, batch = lively_model(), images([(64, 64), (64, 64)])
    alone = model([batch[1]])[0]["instances"]
    real = model.proposal_generator.forward

    def first_sees_nothing(*args: object) -> tuple:
        found, losses = real(*args)
        return [found[0][:0], *found[1:]], losses

    model.proposal_generator.forward = first_sees_nothing
    results = [r["instances"] for r in model(batch)]
    assert len(results[0]) == 0
    assert results[0].pred_masks.shape == (0, 64, 64)
    same(results[1], alone)


@torch.no_grad()
def test_every_detection_can_be_ranked() -> None:
    model = lively_model(MODEL__SOR__DECODE="all")
    for result in model(images(SIZES[:3])):
        ranks, scores = result["instances"].pred_ranks, result["instances"].pred_rank_scores
        assert (ranks >= 0).all()
        assert scores[ranks.argsort()].diff().min() >= 0


@torch.no_grad()
def test_given_boxes_are_segmented_and_ranked() -> None:
    model, batch = lively_model(), images([(96, 128), (64, 64)])
    found = model.inference(batch, do_postprocess=False)
    given = []
    for x in found:
        boxes = Instances(x.image_size)
        boxes.pred_boxes, boxes.pred_classes, boxes.scores = x.pred_boxes, x.pred_classes, x.scores
        given.append(boxes)
    again = model.inference(batch, given, do_postprocess=False)
    for one, other in zip(found, again, strict=True):
        torch.testing.assert_close(one.pred_rank_scores, other.pred_rank_scores, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@torch.no_grad()
def test_a_large_photograph_fits() -> None:
    model = lively_model()
    result = model(images([(3000, 4000)]))[0]["instances"]
    assert result.pred_masks.shape[1:] == (3000, 4000)


@torch.no_grad()
def test_ranking_and_scoring_stay_in_single_precision() -> None:
    """A large activation overflows float16, and rounding would exchange objects that differ by little."""
    model: Any = lively_model(MODEL__SOR__DECODE="all")
    model.roi_heads.sor_head.sor_fc2.weight.mul_(1e4)
    batch = images(SIZES[:3])
    dtypes = []
    model.roi_heads.sor_head.sor.register_forward_hook(lambda *x: dtypes.append(x[2].dtype))
    model.proposal_generator.fcos_head.cls_logits.register_forward_hook(lambda *x: dtypes.append(x[2].dtype))
    with torch.autocast("cpu", dtype=torch.float16):
        results = [r["instances"] for r in model(batch)]
    assert set(dtypes) == {torch.float32}
    assert all(torch.isfinite(x.pred_rank_scores).all() for x in results)
