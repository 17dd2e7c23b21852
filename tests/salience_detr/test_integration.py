"""Salience-DETR with the trainer, the dataset mapper, the predictor and the salience sheets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import nn

from sor_ppa.data.mapper import RankingDatasetMapper
from sor_ppa.engine import Trainer
from sor_ppa.predictor import SORPredictor
from sor_ppa.visualization.annotate import Output, annotate
from sor_ppa.visualization.heatmap import write_salience_sheets
from tests.fake_model import FakeModel

from .test_detector import config, sample, small


def test_the_trainer_uses_the_published_groups_and_clips_the_whole_model() -> None:
    cfg = small("salience_detr_R_50_sid.yaml")
    model = build_model(cfg).train()
    optimizer = Trainer.build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {round(g["lr"], 8) for g in optimizer.param_groups} == {1e-4, 1e-5}
    total = torch.stack(list(model([sample(64, 96, 2)]).values())).sum()
    (total * 1e3).backward()
    optimizer.step()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() == pytest.approx(0.1, rel=1e-3)


def test_half_of_the_training_images_are_cropped_and_all_are_resized() -> None:
    cfg = config("salience_detr_R_50_4scale.yaml")
    augmentations = RankingDatasetMapper.from_config(cfg, is_train=True)["augmentations"]
    image = np.zeros((300, 500, 3), np.uint8)
    cropped = 0
    for seed in range(12):
        np.random.seed(seed)
        given = T.AugInput(image)
        transforms = T.AugmentationList(augmentations)(given)
        short, long = sorted(given.image.shape[:2])
        assert short in cfg.INPUT.MIN_SIZE_TRAIN or long == cfg.INPUT.MAX_SIZE_TRAIN
        cropped += any(isinstance(t, T.CropTransform) for t in transforms.transforms)
    assert 0 < cropped < 12


class BoxModel(nn.Module):
    """Finds one box and no mask."""

    def forward(self, inputs: list[dict]) -> list[dict]:
        instances = Instances((inputs[0]["height"], inputs[0]["width"]))
        instances.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 4.0, 5.0]]))
        instances.scores = torch.tensor([0.9])
        instances.pred_classes = torch.tensor([0])
        instances.pred_ranks = torch.tensor([-1])
        instances.pred_rank_scores = torch.tensor([0.9])
        return [{"instances": instances}]


def test_boxes_replace_masks_of_a_detector_that_does_not_segment() -> None:
    predictor = SORPredictor(config("salience_detr_R_50_sid.yaml"), model=BoxModel())
    (result,) = predictor([np.zeros((8, 9, 3), np.uint8)])
    expected = np.zeros((8, 9), bool)
    expected[2:5, 1:4] = True
    np.testing.assert_array_equal(result.masks[0], expected)
    assert result.objects[0].rank is None


def test_salience_sheets(tmp_path: Path) -> None:
    cfg = small("salience_detr_R_50_sid.yaml")
    cfg.INPUT.MIN_SIZE_TEST = 70
    predictor = SORPredictor(cfg, model=build_model(cfg).eval(), min_score=0.0)
    picture = tmp_path / "photo.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8))
    output = Output(tmp_path / "out", "png")
    annotate(predictor, [picture], output, progress=False)
    write_salience_sheets(predictor.salience_maps, [picture], output)
    sheet = cv2.imread(str(tmp_path / "out" / "photo_salience_maps.png"))
    assert sheet.shape[1] == 1800  # five columns
    maps = predictor.salience_maps(picture)
    assert [m.shape for m in maps] == [(9, 13), (5, 7), (3, 4), (2, 2)]
    assert all(((m >= 0) & (m <= 1)).all() for m in maps)


def test_a_model_without_salience_maps_is_named() -> None:
    predictor = SORPredictor(config("salience_detr_R_50_sid.yaml"), model=FakeModel())
    with pytest.raises(ValueError, match="expected a model with salience maps"):
        predictor.salience_maps(np.zeros((8, 9, 3), np.uint8))
