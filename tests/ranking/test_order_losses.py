"""Every detector learns an order and says how sure it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from sor_ppa.building import build_checked_model
from sor_ppa.config import ConfigError
from tests.centermask.test_batches import images
from tests.mask2former.models import small_config
from tests.models import bitmask_targets, make_cfg
from tests.salience_detr.test_detector import small
from tests.siamese_detr.tiny import tiny_cfg

DETECTORS = {
    "centermask": lambda: make_cfg("configs/sor/demo.yaml", MODEL__FCOS__INFERENCE_TH_TEST=0.005),
    "mask_rcnn": lambda: make_cfg(
        "configs/sor/exp/maskrcnn-demo.yaml", MODEL__ROI_HEADS__SCORE_THRESH_TEST=0.005
    ),
    "salience_detr": lambda: small("ppa_salience_detr_R_50.yaml"),
    "conditional_detr": lambda: tiny_cfg("RankingDETR", "conditional"),
    "mask2former": small_config,
}


def batch() -> list[dict[str, Any]]:
    """An image of four objects, two of them tied and one without a rank, and an image without objects."""
    boxes = [[4, 8, 60, 70], [64, 8, 90, 40], [64, 50, 120, 90], [92, 4, 126, 48]]
    targets = [bitmask_targets((96, 128), boxes, [4, 2, 2, -1]), bitmask_targets((96, 128), [], [])]
    return [
        {**image, "instances": found} for image, found in zip(images([(96, 128)] * 2), targets, strict=True)
    ]


@pytest.mark.parametrize("loss", ["plackett_luce", "pairwise"])
@pytest.mark.parametrize("detector", DETECTORS)
def test_a_detector_learns_and_predicts_an_order(detector: str, loss: str) -> None:
    torch.manual_seed(0)
    cfg: CfgNode = DETECTORS[detector]()
    cfg.MODEL.SOR.LOSS = loss
    model: Any = build_checked_model(cfg).train()
    with EventStorage():  # detectron2's box heads count there
        model(batch())["sor_loss"].backward()
    (last,) = (value for name, value in model.named_parameters() if name.endswith("sor_head.sor.weight"))
    gradient = last.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0

    with torch.no_grad():
        (found, _) = (result["instances"] for result in model.eval()(batch()))
    assert sorted(found.pred_ranks.tolist()) == list(range(len(found)))
    order = found.pred_ranks.argsort(descending=True)
    assert (found.pred_rank_scores[order].diff() <= 0).all()
    assert (found.pred_expected_rank[order].diff() >= -1e-4).all()
    assert found.pred_rank_probabilities.shape == (len(found), 5)
    if len(found):
        assert found.pred_first_probability.sum().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("detector", DETECTORS)
def test_one_rank_class_has_no_order(detector: str) -> None:
    cfg = DETECTORS[detector]()
    cfg.merge_from_list(["MODEL.SOR.LOSS", "pairwise", "MODEL.SOR.NUM_RANKS", 1])
    with pytest.raises(ConfigError, match=r"MODEL.SOR.NUM_RANKS: expected a whole number from 2 .*, found 1"):
        build_checked_model(cfg)
