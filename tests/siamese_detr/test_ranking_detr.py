"""The DETR that segments and ranks."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from tests.detr import labelled, picture

from .tiny import LEVELS, tiny_cfg

BATCH = [
    labelled(96, 128, [[5.0, 5, 60, 70], [70, 20, 120, 90]]),
    labelled(128, 96, [], seed=1),
]


def make(transformer="conditional", **keys):
    torch.manual_seed(0)
    return build_model(tiny_cfg("RankingDETR", transformer, **keys))


@pytest.mark.parametrize("transformer", LEVELS)
def test_a_step_trains_detector_masks_and_ranks(transformer):
    model = make(transformer).train()
    losses = model(BATCH)
    assert {"loss_ce", "loss_mask", "loss_maskiou", "sor_loss"} <= set(losses)
    sum(losses.values()).backward()
    frozen = ("backbone.stem", "backbone.res2")
    missing = [n for n, p in model.named_parameters() if p.grad is None and not n.startswith(frozen)]
    assert missing == []


@pytest.mark.parametrize("transformer", LEVELS)
def test_answers_have_masks_and_ranks_at_the_original_size(transformer):
    model = make(transformer).eval()
    found = model([{"image": picture(96, 128), "height": 48, "width": 64}])[0]["instances"]
    assert len(found) > 0
    assert found.pred_masks.shape == (len(found), 48, 64)
    assert found.pred_masks.dtype == torch.bool
    assert found.pred_ranks.dtype == torch.int64
    assert found.pred_rank_scores.dtype == torch.float32
    assert found.mask_scores.shape == (len(found),)


def test_an_image_without_detections_has_every_field():
    found = make(SCORE_THRESH=1.0).eval()([{"image": picture(64, 64), "height": 32, "width": 32}])[0][
        "instances"
    ]
    assert len(found) == 0
    for field in (
        "pred_boxes",
        "scores",
        "pred_classes",
        "pred_masks",
        "mask_scores",
        "pred_ranks",
        "pred_rank_scores",
    ):
        assert found.has(field), field
    assert found.pred_masks.shape == (0, 32, 32)


def test_answers_do_not_depend_on_the_batch():
    model = make().eval()
    samples = [{"image": picture(h, w, i)} for i, (h, w) in enumerate([(64, 96), (97, 61), (64, 96)])]
    together = model(samples)
    for sample, result in zip(samples, together, strict=True):
        alone = model([sample])[0]["instances"]
        result = result["instances"]
        assert torch.allclose(alone.scores, result.scores, atol=1e-5)
        assert torch.allclose(alone.pred_rank_scores, result.pred_rank_scores, atol=1e-3)
