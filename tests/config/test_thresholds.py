"""Score thresholds: 0.3 for published ranking files, which name none; what a file names wins."""

from __future__ import annotations

from typing import Any

import pytest
from detectron2.modeling import build_model

from sor_ppa.config import settle_config
from tests.models import make_cfg

FCOS, BOX = "MODEL.FCOS.INFERENCE_TH_TEST", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"


@pytest.mark.parametrize(
    ("options", "fcos", "box"),
    [
        ([], 0.3, 0.3),
        ([FCOS, 0.05], 0.05, 0.3),
        ([FCOS, 0.0, BOX, 0.5], 0.0, 0.5),
        (["MODEL.SOR.NAME", ""], 0.05, 0.05),
        (["MODEL.ROI_HEADS.NAME", "StandardROIHeads"], 0.05, 0.05),
    ],
)
def test_what_a_file_names_wins(options: list[Any], fcos: float, box: float) -> None:
    cfg = make_cfg(None, MODEL__ROI_HEADS__NAME="CenterROIHeads")
    cfg.merge_from_list(options)
    settle_config(cfg)
    assert (fcos, box) == (cfg.MODEL.FCOS.INFERENCE_TH_TEST, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)


@pytest.mark.parametrize(("heads", "threshold"), [("MaskRCNNHeads", 0.3), ("StandardROIHeads", 0.05)])
def test_mask_rcnn_built_by_detectron2_alone(heads: str, threshold: float) -> None:
    cfg = make_cfg("configs/sor/exp/maskrcnn-demo.yaml", MODEL__ROI_HEADS__NAME=heads)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = make_cfg(None).MODEL.ROI_HEADS.SCORE_THRESH_TEST
    predictor = build_model(cfg).roi_heads.box_predictor
    assert predictor.test_score_thresh == pytest.approx(threshold, abs=1e-12)
