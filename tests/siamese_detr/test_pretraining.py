"""The pre-training model: every transformer, its switches, and its mistakes."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from PIL import Image

from sor_ppa.siamese_detr.pretraining import ViewBatch, jitter_boxes
from tests.detr import picture

from .tiny import TRANSFORMERS, tiny_cfg, two_views

SAMPLES = [two_views(96, 128, seed=1), two_views(128, 96, seed=2)]


@pytest.mark.parametrize("transformer", TRANSFORMERS)
def test_a_step_trains_everything_but_the_backbone(transformer):
    torch.manual_seed(0)
    model = build_model(tiny_cfg("SiameseDETR", transformer)).train()
    sum(model(SAMPLES).values()).backward()
    for name, parameter in model.named_parameters():
        if name.startswith("backbone."):
            assert not parameter.requires_grad, name
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_terms_of_no_weight_have_no_head():
    cfg = tiny_cfg("SiameseDETR")
    cfg.MODEL.SIAMESE_DETR.PRETRAIN.FEATURE_WEIGHT = 0.0
    cfg.MODEL.SIAMESE_DETR.PRETRAIN.GLOBAL_WEIGHT = 0.0
    model = build_model(cfg).train()
    samples = [{k: v for k, v in s.items() if k != "crops"} for s in SAMPLES]
    losses = model(samples)
    assert not [k for k in losses if "feature" in k or "global" in k]
    assert not [k for k, _ in model.named_parameters() if "feature_align" in k or "enc_head" in k]


def test_every_image_has_its_own_queries_unless_the_published_fault_is_asked_for():
    cfg = tiny_cfg("SiameseDETR", "deformable")
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    batch = ViewBatch.collate(SAMPLES, model.device)
    own = model.cross_view(batch).predictions
    model.first_image_queries = True
    shared = model.cross_view(batch).predictions
    first, other = [0, 2], [1, 3]
    assert torch.allclose(own.boxes[:, first], shared.boxes[:, first], atol=1e-5)
    assert not torch.allclose(own.boxes[:, other], shared.boxes[:, other], atol=1e-3)


def test_predictions_do_not_depend_on_the_batch():
    torch.manual_seed(0)
    model = build_model(tiny_cfg("SiameseDETR")).eval()
    together = model(SAMPLES)
    for sample, result in zip(SAMPLES, together, strict=True):
        alone = model([sample])[0]
        # Duplicate queries of an untrained model may swap; what the best of them see may not.
        assert torch.allclose(alone["scores"], result["scores"], atol=1e-3)
        assert result["boxes"].shape == (2, 10, 4)
        assert torch.equal(result["regions"], sample["boxes"])


def test_jitter_stays_in_the_view():
    boxes = torch.tensor([[0.0, 0.0, 100.0, 50.0], [20.0, 10.0, 60.0, 30.0]])
    limits = torch.tensor([100.0, 50.0])
    noise = torch.randn(2, 4) * 10
    moved = jitter_boxes(boxes, limits, 0.1, noise)
    assert (moved >= 0).all()
    assert (moved <= torch.tensor([100.0, 50.0, 100.0, 50.0])).all()
    assert ((moved[1] - boxes[1]).abs() <= torch.tensor([4.0, 2.0, 4.0, 2.0]) + 1e-5).all()


def test_pictures_are_written_in_training(tmp_path):
    cfg = tiny_cfg("SiameseDETR")
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.MODEL.SIAMESE_DETR.PRETRAIN.PICTURE_PERIOD = 2
    model = build_model(cfg).train()
    with EventStorage(0) as storage:
        for _ in range(3):
            model(SAMPLES)
            storage.step()
        assert storage.latest()["class_error"][0] >= 0
    assert model.training
    found = sorted(p.name for p in (tmp_path / "views").iterdir())
    assert found == ["0000000.png", "0000002.png"]
    with Image.open(tmp_path / "views" / found[0]) as image:
        assert image.size == (2 * 3 * 128 + 8, 3 * 96 + 3 * 128 + 8)  # small views are enlarged


def test_mixed_precision_gives_finite_losses():
    torch.manual_seed(0)
    for transformer in TRANSFORMERS:
        model = build_model(tiny_cfg("SiameseDETR", transformer)).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = model(SAMPLES)
        assert all(torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()


def test_one_pixel_views_pass():
    model = build_model(tiny_cfg("SiameseDETR")).eval()
    sample = two_views(1, 1)
    sample["views"] = torch.stack([picture(1, 1), picture(1, 1)])
    sample["boxes"] = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(2, 10, 4)
    assert torch.isfinite(model([sample])[0]["boxes"]).all()
