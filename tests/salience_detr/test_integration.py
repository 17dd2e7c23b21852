"""Salience-DETR with the dataset mapper, the predictor and the salience sheets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from sor_ppa.data.mapper import RankingDatasetMapper
from sor_ppa.folder_ranking import FileOutput, rank_files, write_salience_sheets
from sor_ppa.predictor import SORPredictor

from .test_detector import config, small


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


def one_box(inputs: list[dict]) -> list[dict]:
    """A model that finds one box and no mask."""
    found = Instances((inputs[0]["height"], inputs[0]["width"]))
    found.pred_boxes = Boxes(torch.tensor([[1.0, 2.0, 4.0, 5.0]]))
    found.scores = found.pred_rank_scores = torch.tensor([0.9])
    found.pred_classes, found.pred_ranks = torch.tensor([0]), torch.tensor([-1])
    return [{"instances": found}]


def test_boxes_replace_masks_of_a_detector_that_does_not_segment() -> None:
    predictor = SORPredictor(config("salience_detr_R_50_sid.yaml"), model=one_box)
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
    output = FileOutput(tmp_path / "out", extension="png")
    rank_files(predictor, [picture], output, progress=False)
    write_salience_sheets(predictor, [picture], output)
    sheet = cv2.imread(str(tmp_path / "out" / "photo_salience_maps.png"))
    assert sheet.shape[1] == 1800  # five columns
    maps = predictor.salience_maps(picture)
    assert [m.shape for m in maps] == [(9, 13), (5, 7), (3, 4), (2, 2)]
    assert all(((m >= 0) & (m <= 1)).all() for m in maps)
