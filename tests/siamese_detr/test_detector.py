"""Detectors with every transformer: training, evaluation, empty images."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from torchvision.ops import box_iou

from sor_ppa.engine import Trainer
from tests.detr import labelled, picture

from .tiny import TRANSFORMERS, tiny_cfg

BATCH = [labelled(64, 96, [[5.0, 5, 40, 50], [50, 20, 90, 60]]), labelled(96, 64, [], seed=1)]


def make(transformer="conditional", **keys):
    torch.manual_seed(0)
    return build_model(tiny_cfg("DETRDetector", transformer, **keys))


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_a_step_reaches_every_trainable_parameter(transformer):
    model = make(transformer).train()
    sum(model(BATCH).values()).backward()
    frozen = ("backbone.stem", "backbone.res2")
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith(frozen), name


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_a_batch_without_any_object_trains(transformer):
    model = make(transformer).train()
    losses = model([labelled(64, 64, []), labelled(64, 64, [], seed=1)])
    assert all(torch.isfinite(v) for v in losses.values())
    assert losses["loss_bbox"].item() == 0
    sum(losses.values()).backward()


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_boxes_are_scaled_to_the_original_size(transformer):
    model = make(transformer).eval()
    image = picture(64, 96)
    plain = model([{"image": image}])[0]["instances"]
    scaled = model([{"image": image, "height": 128, "width": 288}])[0]["instances"]
    assert scaled.image_size == (128, 288)
    factor = torch.tensor([3.0, 2.0, 3.0, 2.0])
    assert torch.allclose(plain.pred_boxes.tensor * factor, scaled.pred_boxes.tensor, atol=1e-2)


def test_softmax_classification_trains_and_detects():
    model = make("vanilla", CLASSIFICATION="softmax")
    assert model.class_embed.out_features == 4
    sum(model.train()(BATCH).values()).backward()
    found = model.eval()([BATCH[0]])[0]["instances"]
    assert (found.pred_classes < 3).all()


def test_only_refinement_gives_each_layer_its_own_heads():
    model = make("deformable", BOX_REFINE=True).train()
    sum(model(BATCH).values()).backward()
    assert all(head.last.weight.grad is not None for head in model.bbox_embed)
    assert model.bbox_embed[0] is not model.bbox_embed[1]
    shared = make("deformable").bbox_embed
    assert shared[0] is shared[1]


def test_top_k_and_threshold_limit_detections():
    assert len(make(TOP_K=5).eval()([BATCH[0]])[0]["instances"]) <= 5
    assert len(make(SCORE_THRESH=1.0).eval()([BATCH[0]])[0]["instances"]) == 0


def test_nms_removes_overlapping_detections_of_a_class():
    found = make(NMS_THRESH=0.3).eval()([BATCH[0]])[0]["instances"]
    for label in found.pred_classes.unique():
        boxes = found.pred_boxes.tensor[found.pred_classes == label]
        overlap = box_iou(boxes, boxes) - torch.eye(len(boxes))
        assert overlap.max() < 0.5


def test_without_auxiliary_losses_only_the_last_layer_trains():
    losses = make(AUX_LOSS=False).train()(BATCH)
    assert set(losses) == {"loss_ce", "loss_bbox", "loss_giou"}


def test_more_objects_than_queries_train():
    boxes = [[float(i), float(i), i + 20.0, i + 30.0] for i in range(25)]
    losses = make().train()([labelled(64, 64, boxes)])
    assert all(torch.isfinite(v) for v in losses.values())


def test_diverged_predictions_raise():
    model = make().train()
    with torch.no_grad():
        model.class_embed.weight.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"matching cost: expected finite values, found NaN"):
        model(BATCH)


def test_the_optimizer_slows_the_backbone():
    cfg = tiny_cfg("DETRDetector", BACKBONE_LR_FACTOR=0.5)
    cfg.merge_from_file("configs/siamese_detr/Base-DETR-R50.yaml")
    model = build_model(tiny_cfg("DETRDetector"))
    optimizer = Trainer.build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {g["weight_decay"] for g in optimizer.param_groups} == {1e-4}
    assert sorted(g["lr"] for g in optimizer.param_groups) == [0.5e-4, 1e-4]
