"""Each image of a batch has its own answer, with every detector, at any size, with any number of objects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import Instances
from detectron2.utils.events import EventStorage

from sor_ppa.ranking import SOR_HEAD_REGISTRY
from tests.models import bitmask_targets, make_cfg

SIZES = [(160, 208), (208, 160), (64, 64), (150, 200), (96, 320), (160, 208), (33, 47), (201, 121)]
FEW_OBJECTS = {"MODEL__FCOS__INFERENCE_TH_TEST": 0.3, "MODEL__FCOS__POST_NMS_TOPK_TEST": 12}
MASK_RCNN = {
    "MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0,
    "MODEL__RPN__POST_NMS_TOPK_TEST": 30,
    "MODEL__SOR__CONV_DIM": 16,
    "MODEL__SOR__NUM_CONV": 1,
    "MODEL__SOR__DENSE_DIM": 32,
    "MODEL__SOR__OBJ_DIM": 32,
    "MODEL__SOR__TRANSFORMER__D_MODEL": 32,
    "MODEL__SOR__TRANSFORMER__LAYERS": 1,
}
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "lite-v19-slim-dw": ("configs/sor/exp/centermask-lite-v19-slim-dw.yaml", {}),
    "lite-mobilenet": ("configs/sor/exp/centermask-lite-mv2.yaml", {}),
    "mask-rcnn": ("configs/sor/exp/maskrcnn.yaml", MASK_RCNN),
    "area-no-mask-iou": (
        "configs/sor/demo.yaml",
        {"MODEL__ROI_MASK_HEAD__ASSIGN_CRITERION": "area", "MODEL__MASKIOU_ON": False},
    ),
    "deformable": (
        "configs/sor/demo.yaml",
        {
            "MODEL__VOVNET__STAGE_WITH_DCN": (False, True, True, True),
            "MODEL__VOVNET__WITH_MODULATED_DCN": True,
            "MODEL__FCOS__USE_DEFORMABLE": True,
        },
    ),
    "fcos-resnet": (
        "configs/sor/demo.yaml",
        {
            "MODEL__BACKBONE__NAME": "build_fcos_resnet_fpn_backbone",
            "MODEL__RESNETS__OUT_FEATURES": ["res3", "res4", "res5"],
            "MODEL__FPN__IN_FEATURES": ["res3", "res4", "res5"],
        },
    ),
}


def lively_model(config: str = "configs/sor/demo.yaml", sharpness: float = 200, **overrides: Any) -> Any:
    """A model whose random weights see objects and tell them apart."""
    torch.manual_seed(0)
    model: Any = build_model(make_cfg(config, **{**FEW_OBJECTS, **overrides})).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, FrozenBatchNorm2d):
                module.weight.fill_(0.5)  # without weights the activations of a deep network grow too large
        for key, value in model.named_parameters():
            if "offset" in key and value.dim() > 1:
                value.normal_(std=0.02)  # they start as plain convolutions
        if hasattr(model.proposal_generator, "fcos_head"):
            see_objects(model.proposal_generator.fcos_head)
        model.roi_heads.sor_head.sor.weight.mul_(50)
        model.roi_heads.mask_head.predictor.weight.mul_(sharpness)
    return model


def detector(name: str, **overrides: Any) -> Any:
    config, options = DETECTORS[name]
    return lively_model(config, 20, **{**options, **overrides})


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


def answers(model: Any, batch: list[dict]) -> list[Instances]:
    """Answers before the masks are pasted, with probabilities, which rounding turns over nowhere."""
    with torch.no_grad():
        return model.inference(batch, do_postprocess=False)


def same(one: Instances, other: Instances) -> None:
    assert len(one) == len(other)
    assert one.pred_ranks.tolist() == other.pred_ranks.tolist()
    torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-2, rtol=1e-4)
    pasted = one.pred_masks.dtype == torch.bool
    for field in ("scores", "mask_scores", "pred_rank_scores"):
        torch.testing.assert_close(one.get(field), other.get(field), atol=1e-4 if pasted else 2e-4, rtol=1e-4)
    if pasted:
        assert (one.pred_masks != other.pred_masks).float().mean() < 1e-3
    else:
        torch.testing.assert_close(one.pred_masks, other.pred_masks, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", DETECTORS)
def test_neighbors_change_nothing(name: str) -> None:
    model, batch = detector(name), images(SIZES)
    together = answers(model, batch)
    assert sum(len(x) for x in together) > 8
    assert any((x.pred_ranks >= 0).any() for x in together)
    for item, found in zip(batch, together, strict=True):
        same(answers(model, [item])[0], found)
    for found, other in zip(together, answers(model, batch[::-1])[::-1], strict=True):
        same(found, other)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("limit", [0, 1, 100])
def test_none_one_and_a_hundred_objects(name: str, limit: int) -> None:
    wanted = {"MODEL__FCOS__POST_NMS_TOPK_TEST": 100, "MODEL__FCOS__NMS_TH": 0.95}
    wanted |= {"MODEL__RPN__POST_NMS_TOPK_TEST": 300, "MODEL__ROI_HEADS__NMS_THRESH_TEST": 0.99}
    model = detector(name, **wanted, MODEL__SOR__DECODE="all")
    item = images([(160, 208)])[0]
    with torch.no_grad():
        features, found = model.detect([item])
    assert len(found[0]) >= min(limit, 60)
    chosen = found[0][:limit]
    with torch.no_grad():
        (result,) = model.roi_heads.forward_with_given_boxes(features, [chosen])
    assert sorted(result.pred_ranks.tolist()) == list(range(len(chosen)))
    assert torch.isfinite(result.pred_rank_scores).all()
    assert (result.pred_rank_scores[result.pred_ranks.argsort()].diff() >= 0).all()
    assert len(result.pred_masks) == len(chosen)


@pytest.mark.parametrize("name", ["lite-mobilenet", "mask-rcnn"])
@pytest.mark.parametrize("head", [name for name, _ in SOR_HEAD_REGISTRY if name.startswith("S")])
def test_every_head_trains_on_every_detector(name: str, head: str) -> None:
    width = 28 if head == "SelfAttentionWithOtherPos" else 32
    heads = {k: v for k, v in MASK_RCNN.items() if "SOR" in k} | {
        "MODEL__SOR__NAME": head,
        "MODEL__SOR__OBJ_DIM": width,
        "MODEL__SOR__TRANSFORMER__USE_POS": True,
    }
    model = detector(name, **heads)
    batch = images([(64, 96), (96, 64)])
    for item in batch:
        size = (item["height"], item["width"])
        item["instances"] = bitmask_targets(size, [[4, 4, 40, 40], [30, 30, 60, 60]], [4, 3])
    model.train()
    with EventStorage():
        losses = model(batch)
    assert all(torch.isfinite(value) for value in losses.values())
    losses["sor_loss"].backward()
    ranking = dict(model.roi_heads.sor_head.named_parameters())
    assert all(p.grad is not None for p in ranking.values())
    assert model.roi_heads.sor_head.sor.weight.grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("size", [(64, 64), (64, 4000), (4000, 64), (2250, 4000)])
def test_sizes_up_to_4000(name: str, size: tuple[int, int]) -> None:
    model, item = detector(name), images([size])[0]
    alone = answers(model, [item])[0]
    same(answers(model, [*images([(64, 64)]), item])[1], alone)


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
