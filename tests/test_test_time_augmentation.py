"""Test-time augmentation: several views of a picture give one answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import Tensor, nn

from sor_ppa.config import ConfigError
from sor_ppa.predictor import SORPredictor, demo_predictor
from sor_ppa.test_time_augmentation import AugmentedRanker, View, fuse, views_from_config, with_views
from tests.centermask.test_batches import lively_model, same
from tests.models import make_cfg

DEMO = "configs/sor/demo.yaml"
MASK_RCNN = {"MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0, "MODEL__RPN__POST_NMS_TOPK_TEST": 20}


def picture(height: int = 96, width: int = 128, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def augmented(model: nn.Module, *views: View, threshold: float = 0.6) -> AugmentedRanker:
    return AugmentedRanker(model, views, threshold, 100).eval()


def answer(model: nn.Module, image: Tensor, **size: int) -> Instances:
    return model([{"image": image, **size}])[0]["instances"]


def row(*values: float) -> Tensor:
    return torch.tensor([values])


def test_a_single_view_is_exactly_the_plain_answer() -> None:
    model, image = lively_model(), picture()
    one = answer(augmented(model, View(0, 4000, False)), image, height=200, width=300)
    with torch.no_grad():
        plain = answer(model, image.float(), height=200, width=300)
    assert len(one) > 1
    for field in ("scores", "mask_scores", "pred_masks", "pred_ranks", "pred_rank_scores"):
        assert torch.equal(one.get(field), plain.get(field)), field
    assert torch.equal(one.pred_boxes.tensor, plain.pred_boxes.tensor)


def test_a_picture_in_a_batch_is_answered_as_alone() -> None:
    ranker = augmented(lively_model(), View(64, 4000, False), View(96, 4000, True))
    images = [picture(), picture(128, 64, seed=2), picture(64, 300, seed=3)]
    for image, together in zip(images, ranker([{"image": i} for i in images]), strict=True):
        same(together["instances"], answer(ranker, image))


def test_the_mean_confidence_decides_which_objects_are_ranked() -> None:
    model, image = lively_model(), picture()
    views = [View(96, 4000, False), View(96, 4000, True)]
    everything = answer(AugmentedRanker(model, views, 0.6, 100).eval(), image)
    middle = float(everything.scores.median())
    few = answer(AugmentedRanker(model, views, 0.6, 100, min_score=middle).eval(), image)
    assert 0 < len(few) < len(everything)
    assert torch.equal(few.scores, everything.scores[everything.scores >= middle])


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 900)])
def test_pictures_of_hardly_any_pixels(size: tuple[int, int]) -> None:
    found = answer(augmented(lively_model(), View(64, 100, False), View(64, 100, True)), picture(*size))
    assert found.pred_masks.shape[1:] == size


def test_the_answer_for_a_mirrored_picture_is_mirrored() -> None:
    model, image = lively_model(MODEL__SOR__DECODE="all"), picture()
    views = [View(0, 4000, False), View(0, 4000, True)]
    one = answer(augmented(model, *views), image)
    other = answer(augmented(model, *views), image.flip(-1))
    assert len(one) > 1
    x1, y1, x2, y2 = other.pred_boxes.tensor.unbind(1)
    mirrored = torch.stack([128 - x2, y1, 128 - x1, y2], 1)
    torch.testing.assert_close(mirrored, one.pred_boxes.tensor, atol=1e-2, rtol=1e-4)
    torch.testing.assert_close(other.pred_rank_scores, one.pred_rank_scores, atol=1e-4, rtol=1e-4)
    assert other.pred_ranks.tolist() == one.pred_ranks.tolist()
    assert (other.pred_masks.flip(-1) != one.pred_masks).float().mean() < 2e-2


def test_nothing_in_any_view() -> None:
    model: Any = lively_model()
    with torch.no_grad():
        model.proposal_generator.fcos_head.cls_logits.bias.fill_(-30.0)
        model.proposal_generator.fcos_head.cls_logits.weight.zero_()
    found = answer(augmented(model, View(0, 4000, False), View(48, 4000, True)), picture())
    assert len(found) == 0
    assert found.pred_masks.shape == (0, 96, 128)
    for field in ("scores", "mask_scores", "pred_ranks", "pred_rank_scores"):
        assert found.get(field).shape == (0,)


def test_fusion_averages_what_views_agree_on() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60]])
    scores, view = torch.tensor([0.9, 0.3, 0.8]), torch.tensor([0, 1, 1])
    fused, confidence, classes = fuse(boxes, scores, torch.zeros(3, dtype=torch.int64), view, 2, 0.5, 0)
    torch.testing.assert_close(fused[0], torch.tensor([0.0, 0, 10, (0.9 * 10 + 0.3 * 12) / 1.2]))
    torch.testing.assert_close(confidence, torch.tensor([0.6, 0.4]))
    torch.testing.assert_close(fused[1], boxes[2])
    assert classes.tolist() == [0, 0]
    # of three views, one is too few
    assert len(fuse(boxes, scores, torch.zeros(3, dtype=torch.int64), view, 3, 0.5, 0)[0]) == 1


def test_fusion_keeps_classes_apart_and_honours_the_limit() -> None:
    boxes, scores = row(0.0, 0, 10, 10).repeat(2, 1), torch.tensor([0.5, 0.9])
    classes, view = torch.tensor([3, 1]), torch.tensor([0, 0])
    assert fuse(boxes, scores, classes, view, 1, 0.5, 0)[2].tolist() == [1, 3]
    assert fuse(boxes, scores, classes, view, 1, 0.5, 1)[2].tolist() == [1]


def test_views_from_scales_and_from_sizes() -> None:
    cfg = make_cfg(DEMO, TEST__AUG__SCALES=(0.5, 1.0))
    found = [(v.short_side, v.flip) for v in views_from_config(cfg)]
    assert found == [(80, False), (80, True), (160, False), (160, True)]
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (200,), False
    assert views_from_config(cfg) == [View(200, 4000, False)]


def test_a_model_that_cannot_rank_boxes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"TEST.AUG.ENABLED: expected False for .*SalientObjectRanker"):
        with_views(make_cfg(DEMO, TEST__AUG__ENABLED=True), nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("config", "options"),
    [
        (DEMO, {"MODEL__FCOS__INFERENCE_TH_TEST": 0.001}),
        ("configs/sor/exp/maskrcnn.yaml", MASK_RCNN),
        ("configs/salience_detr/demo.yaml", {"MODEL__SALIENCE_DETR__TEST_SCORE_THRESH": 0.0}),
        ("configs/siamese_detr/synthetic/rank.yaml", {"MODEL__SIAMESE_DETR__SCORE_THRESH": 0.0}),
    ],
)
def test_one_key_for_every_ranking_detector(config: str, options: dict[str, Any]) -> None:
    cfg = make_cfg(config, TEST__AUG__ENABLED=True, TEST__AUG__SCALES=(0.5,), **options)
    cfg.INPUT.MIN_SIZE_TEST = 128
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.fill_(0.3)  # without weights the activations of a deep network grow too large
    predictor = SORPredictor(cfg, model=with_views(cfg, model))
    image = picture(100, 150).permute(1, 2, 0).contiguous().numpy()
    (result,) = predictor([image])
    assert len(result.objects) > 0
    assert result.masks.shape[1:] == (100, 150)
    assert np.isfinite(result.instances.pred_rank_scores.numpy()).all()


@pytest.mark.parametrize(("enabled", "expected"), [("False", 0.7), ("True", 0.05)])
def test_a_threshold_counts_for_the_mean_of_the_views(enabled: str, expected: float) -> None:
    options = ["MODEL.WEIGHTS", "", "MODEL.FCOS.INFERENCE_TH_TEST", "0.05", "TEST.AUG.ENABLED", enabled]
    predictor = demo_predictor(DEMO, options, threshold=0.7)
    assert predictor.min_score == 0.7
    assert expected == predictor.cfg.MODEL.FCOS.INFERENCE_TH_TEST
    assert not isinstance(predictor.model, AugmentedRanker) or predictor.model.min_score == 0.7
