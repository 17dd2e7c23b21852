"""A setting that no model can have is one line that names the key, before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import default_argument_parser

from sor_ppa.building import build_checked_model
from sor_ppa.config import ConfigError, load_config
from sor_ppa.engine import run
from tests.models import REPO, make_cfg
from tests.siamese_detr.tiny import tiny_cfg

DEMO, MASK_RCNN = "configs/sor/demo.yaml", "configs/sor/exp/maskrcnn.yaml"
SALIENCE, SIAMESE = (
    "configs/salience_detr/ppa_salience_detr_R_50.yaml",
    "configs/siamese_detr/ranking_conditional_detr_R_50.yaml",
)
POSITION_CELLS = {"MODEL__SOR__NAME": "SelfAttentionWithOtherPosQuant"}


def build(config: str, **settings: Any) -> None:
    build_checked_model(make_cfg(config, **settings))


@pytest.mark.parametrize(
    ("config", "key"),
    [
        (DEMO, "META_ARCHITECTURE"),
        (DEMO, "BACKBONE__NAME"),
        (DEMO, "PROPOSAL_GENERATOR__NAME"),
        (DEMO, "ROI_HEADS__NAME"),
        (DEMO, "ROI_MASK_HEAD__NAME"),
        (DEMO, "ROI_MASKIOU_HEAD__NAME"),
        (DEMO, "SOR__NAME"),
        (MASK_RCNN, "ROI_BOX_HEAD__NAME"),
        (SALIENCE, "ROI_HEADS__NAME"),
        (SIAMESE, "ROI_HEADS__NAME"),
    ],
)
def test_unknown_names_come_with_the_known_ones(config: str, key: str) -> None:
    dots = key.replace("__", ".")
    with pytest.raises(ConfigError, match=rf"MODEL\.{dots}: found 'Nope', expected one of \w"):
        build(config, **{f"MODEL__{key}": "Nope"})


@pytest.mark.parametrize(
    ("config", "key", "value"),
    [
        (DEMO, "SOR__NUM_RANKS", 0),
        (DEMO, "SOR__NUM_CONV", -1),
        (DEMO, "SOR__CONV_DIM", 0),
        (DEMO, "SOR__DENSE_DIM", 0),
        (DEMO, "SOR__OBJ_DIM", -1),
        (DEMO, "SOR__LOSS_WEIGHT", -1.0),
        (DEMO, "SOR__RANK_THRESH", 1.0),
        (DEMO, "SOR__TRANSFORMER__N_HEAD", 3),
        (DEMO, "SOR__TRANSFORMER__LAYERS", 0),
        (DEMO, "SOR__TRANSFORMER__DROPOUT", 1.0),
        (DEMO, "SOR__TRANSFORMER__IMG_WIDTH", 0),
        (DEMO, "FCOS__NUM_CLASSES", 0),
        (DEMO, "FCOS__PRE_NMS_TOPK_TEST", 0),
        (DEMO, "FCOS__PRIOR_PROB", 1.0),
        (DEMO, "FCOS__NUM_CLS_CONVS", -1),
        (DEMO, "FCOS__POS_RADIUS", 0.0),
        (DEMO, "FCOS__SIZES_OF_INTEREST", [64, 32]),
        (DEMO, "FCOS__FPN_STRIDES", [4, 8, 16]),
        (DEMO, "FCOS__IN_FEATURES", []),
        (DEMO, "FPN__IN_FEATURES", ["stage9"]),
        (DEMO, "FPN__OUT_CHANNELS", 20),
        (DEMO, "VOVNET__OUT_FEATURES", []),
        (DEMO, "VOVNET__NORM", "XN"),
        (DEMO, "VOVNET__STAGE_WITH_DCN", (True,)),
        (DEMO, "ROI_HEADS__IN_FEATURES", []),
        (DEMO, "ROI_HEADS__IN_FEATURES", ["p9"]),
        (DEMO, "ROI_HEADS__NUM_CLASSES", 3),
        (DEMO, "ROI_HEADS__BATCH_SIZE_PER_IMAGE", 0),
        (DEMO, "ROI_HEADS__IOU_LABELS", [0, -1, 1]),
        (DEMO, "ROI_MASK_HEAD__POOLER_RESOLUTION", 0),
        (DEMO, "ROI_MASK_HEAD__POOLER_TYPE", "Crop"),
        (DEMO, "ROI_MASK_HEAD__CONV_DIM", 0),
        (DEMO, "ROI_MASK_HEAD__NORM", "XN"),
        (DEMO, "ROI_MASKIOU_HEAD__NUM_CONV", 0),
        (DEMO, "MASKIOU_LOSS_WEIGHT", -1.0),
        (DEMO, "PIXEL_STD", [1.0]),
        (DEMO, "PIXEL_STD", [0.0, 1.0, 1.0]),
        (MASK_RCNN, "ROI_HEADS__IN_FEATURES", ["p9"]),
        (MASK_RCNN, "ROI_HEADS__NUM_CLASSES", 0),
        (MASK_RCNN, "ROI_MASK_HEAD__POOLER_TYPE", ""),
        (MASK_RCNN, "FPN__IN_FEATURES", ["res9"]),
        (SALIENCE, "SALIENCE_DETR__NUM_QUERIES", 0),
        (SALIENCE, "SALIENCE_DETR__NUM_HEADS", 7),
        (SALIENCE, "SALIENCE_DETR__IN_FEATURES", []),
        (SIAMESE, "SIAMESE_DETR__NUM_QUERIES", 0),
        (SIAMESE, "SIAMESE_DETR__NUM_HEADS", 7),
        (SIAMESE, "SIAMESE_DETR__IN_FEATURES", []),
        (SIAMESE, "ROI_HEADS__IN_FEATURES", ["p9"]),
    ],
)
def test_the_key_and_what_was_found_are_named(config: str, key: str, value: Any) -> None:
    with pytest.raises(ConfigError) as error:
        build(config, **{f"MODEL__{key}": value})
    line = str(error.value)
    assert line.startswith(f"MODEL.{key.replace('__', '.')}: found ")
    assert "expected" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("config", "detector"), [(DEMO, "FCOS"), (SALIENCE, "SALIENCE_DETR"), (SIAMESE, "SIAMESE_DETR")]
)
def test_detector_and_roi_heads_know_the_same_classes(config: str, detector: str) -> None:
    message = rf"ROI_HEADS.NUM_CLASSES: found 1, expected 5 \(classes of MODEL.{detector}\)"
    with pytest.raises(ConfigError, match=message):
        build(config, **{f"MODEL__{detector}__NUM_CLASSES": 5})


@pytest.mark.parametrize(
    ("key", "value", "found"), [("RPN__IN_FEATURES", ["p9"], "'p9'"), ("RESNETS__DEPTH", 51, "51")]
)
def test_what_detectron2_does_not_know_is_one_line(key: str, value: Any, found: str) -> None:
    with pytest.raises(ConfigError, match=rf"^MODEL: found {found}, expected what the parts of \w+ know$"):
        build(MASK_RCNN, **{f"MODEL__{key}": value})


def test_an_embedding_without_cells_is_named() -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.SOR\.QUANT_NUM: found 0, expected at least 1"):
        build(DEMO, **POSITION_CELLS, MODEL__SOR__QUANT_NUM=0)


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(ConfigError, match=r"MODEL\.DEVICE: found 'tpu'"):
        load_config(REPO / DEMO, ["MODEL.DEVICE", "tpu"])


def test_training_and_evaluation_refuse_by_the_same_line(tmp_path: Path) -> None:
    options = ["MODEL.SOR.NAME", "Nope", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)]
    for flags, more in ((["--eval-only"], []), ([], ["DATASETS.TEST", "()"])):
        words = [*flags, "--config-file", str(REPO / DEMO), *options, *more]
        with pytest.raises(ConfigError, match=r"MODEL\.SOR\.NAME: found 'Nope'"):
            run(default_argument_parser().parse_args(words))


def test_a_transformer_of_one_map_takes_the_coarsest_of_several() -> None:
    cfg = tiny_cfg("RankingDETR")
    cfg.MODEL.SIAMESE_DETR.IN_FEATURES = ["res4", "res5"]
    answers = []
    for each in (tiny_cfg("RankingDETR"), cfg):
        torch.manual_seed(0)
        with torch.no_grad():
            found = build_checked_model(each).eval()([{"image": torch.zeros(3, 64, 96)}])
        answers.append(found[0]["instances"].scores)
    assert torch.equal(*answers)
