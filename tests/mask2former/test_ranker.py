"""The ranker whose objects are queries."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sor_ppa.config import ConfigError, check_config
from sor_ppa.mask2former.ranker import kept_by_mask_nms
from tests.detr import labelled, picture
from tests.mask2former.models import small_config, small_ranker

SIZES = ((64, 96), (50, 70), (64, 80), (33, 41))


@pytest.fixture(scope="module", params=["learned", "seeds"])
def model(request: Any) -> Any:
    ranker = small_ranker("MODEL.MASK_FORMER.SEEDS", request.param == "seeds")
    ranker.nms_threshold = 1.0
    return ranker


def test_an_answer_does_not_depend_on_the_batch(model: Any) -> None:
    items = [{"image": picture(*size, seed)} for seed, size in enumerate(SIZES)]
    for item, together in zip(items, model(items), strict=True):
        alone = model([item])[0]["instances"]
        found = together["instances"]
        assert len(found) == len(alone) > 1
        torch.testing.assert_close(found.pred_rank_scores, alone.pred_rank_scores, rtol=1e-4, atol=1e-5)
        assert torch.equal(found.pred_ranks, alone.pred_ranks)


def test_objects_have_masks_boxes_and_ranks_at_the_requested_size(model: Any) -> None:
    (result,) = model([{"image": picture(64, 96), "height": 100, "width": 150}])
    found = result["instances"]
    assert found.image_size == (100, 150)
    assert found.pred_masks.shape == (len(found), 100, 150)
    assert (found.pred_boxes.area() > 0).all()
    assert sorted(found.pred_ranks.tolist()) == list(range(len(found)))
    assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (33, 31)])
def test_any_size_works(model: Any, size: tuple[int, int]) -> None:
    found = model([{"image": picture(*size)}])[0]["instances"]
    assert found.pred_masks.shape[1:] == size


def test_an_image_without_objects_gives_none(model: Any) -> None:
    high, model.score_thresh = model.score_thresh, 1.0
    (result,) = model([{"image": picture(40, 40)}])
    model.score_thresh = high
    assert len(result["instances"]) == 0
    assert result["instances"].pred_masks.shape == (0, 40, 40)


def test_only_selected_masks_are_enlarged(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    enlarged = []

    def resize(logits: Any, padded: Any, size: Any, output: Any) -> Any:
        enlarged.append(len(logits))
        return torch.ones(len(logits), *output, dtype=torch.bool), None

    monkeypatch.setattr("sor_ppa.mask2former.instances.resize_masks", resize)
    monkeypatch.setattr(model, "count", 2)
    model([{"image": picture(64, 96)}])
    assert enlarged == [2]


@pytest.mark.parametrize("boxes", [[[4.0, 4.0, 30.0, 30.0], [40.0, 8.0, 60.0, 50.0]], []])
def test_every_parameter_gets_a_gradient(model: Any, boxes: list[list[float]]) -> None:
    model.train()
    losses = model([labelled(64, 96, boxes), labelled(40, 50, [])])
    model.eval()
    assert {"loss_ce", "loss_mask", "loss_dice", "sor_loss"} <= set(losses)
    model.zero_grad()
    sum(losses.values()).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_matched_queries_are_ranked_with_predicted_and_true_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def losses(logits: Any, counts: Any, gt_ranks: Any, options: Any) -> Any:
        seen.update(counts=counts, ranks=gt_ranks.sort().values.tolist())
        return {}

    monkeypatch.setattr("sor_ppa.mask2former.ranker.logit_losses", losses)
    three = [[4.0, 4.0, 30.0, 30.0], [40.0, 8.0, 60.0, 50.0], [2.0, 40.0, 20.0, 60.0]]
    small_ranker().train()([labelled(64, 96, three), labelled(64, 64, []), labelled(64, 64, three[:1])])
    assert seen == {"counts": [3, 0, 1] * 2, "ranks": [0, 0, 0, 0, 1, 1, 2, 2]}


def test_the_less_confident_of_two_equal_masks_is_dropped() -> None:
    masks = torch.zeros(1, 3, 10, dtype=torch.bool)
    masks[0, :2, :5] = masks[0, 2, 5:] = True
    kept = kept_by_mask_nms(masks, torch.tensor([[0.4, 0.9, 0.2]]), 0.5)
    assert kept.tolist() == [[False, True, True]]
    assert kept_by_mask_nms(masks, torch.tensor([[0.4, 0.9, -1.0]]), 1.0).tolist() == [[True, True, False]]


def test_mixed_precision_removes_the_same_masks() -> None:
    masks = torch.zeros(1, 2, 2000, dtype=torch.bool)
    masks[0, 0, :1003] = masks[0, 1, :1003] = True  # bfloat16 has no 1003
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert kept_by_mask_nms(masks, torch.ones(1, 2), 1.0).tolist() == [[True, True]]


@pytest.mark.parametrize("step", [1, 32])
def test_cells_inside_an_image_do_not_depend_on_the_padding(step: int) -> None:
    ranker = small_ranker("MODEL.MASK_FORMER.SIZE_DIVISIBILITY", step)
    batch = ranker.batch([picture(33, 41), picture(17, 30)])
    with torch.no_grad():
        prediction = ranker.run(batch.tensor, every_layer=False).last
    sizes = torch.tensor(batch.image_sizes)
    assert ranker.inside(prediction, sizes).sum((1, 2)).tolist() == [9 * 11, 5 * 8]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.MASK_FORMER.HIDDEN_DIM", 128),
        ("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
        ("MODEL.MASK_FORMER.NHEADS", 5),
        ("MODEL.SEM_SEG_HEAD.COMMON_STRIDE", 8),
        ("MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res2"]),
        ("MODEL.MASK_FORMER.TEST.PANOPTIC_ON", True),
        ("MODEL.SOR.TRANSFORMER.D_MODEL", 64),
        ("MODEL.SOR.NAME", ""),
        ("TEST.AUG.ENABLED", True),
        ("MODEL.MASK_ON", False),
    ],
)
def test_settings_that_do_not_fit_are_refused(key: str, value: Any) -> None:
    cfg = small_config()
    cfg.merge_from_list([key, value])
    with pytest.raises(ConfigError, match=key):
        check_config(cfg)
