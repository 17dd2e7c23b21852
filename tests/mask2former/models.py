"""Small models and samples for tests."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode

from sor_ppa.building import build_checked_model
from sor_ppa.config import load_config

SMALL = [
    *("MODEL.SEM_SEG_HEAD.MASK_DIM", 32, "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_FFN_DIM", 32),
    *("MODEL.MASK_FORMER.DIM_FEEDFORWARD", 32, "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", 8),
    *("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 32, "MODEL.MASK_FORMER.TEST.SCORE_THRESH", 0.0),
    *("MODEL.SOR.DENSE_DIM", 32, "MODEL.SOR.OBJ_DIM", 32, "MODEL.SOR.TRANSFORMER.D_MODEL", 32),
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
]


def small_config(*options: Any) -> CfgNode:
    """The demo network with few channels; every query may become an object."""
    return load_config("mask2former/ranking_mask2former_demo.yaml", [*SMALL, *options])


def small_ranker(*options: Any) -> Any:
    """A ranker with weights of its initialization, in evaluation mode."""
    torch.manual_seed(0)
    return build_checked_model(small_config(*options)).eval()
