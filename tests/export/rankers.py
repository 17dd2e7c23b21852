"""Small rankers with random weights that find objects."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from sor_ppa.building import build_checked_model
from sor_ppa.config import settle_config
from tests.models import make_cfg

CENTERMASK, MASK_RCNN = "configs/sor/demo.yaml", "configs/sor/exp/maskrcnn-demo.yaml"


def ranker_cfg(config: str, **changes: Any) -> CfgNode:
    """The configuration of a small ranker on the CPU; ``changes`` use ``__`` for dots."""
    cfg = make_cfg(config, **changes)
    settle_config(cfg)
    return cfg


def small_ranker(cfg: CfgNode) -> nn.Module:
    """A model with the same random weights every time, large enough to find different objects."""
    torch.manual_seed(1)
    model = build_checked_model(cfg).eval()
    generator = torch.Generator().manual_seed(0)
    scales = {
        **{"cls_logits.weight": 0.1, "predictor.weight": 0.1, "objectness_logits.weight": 0.1},
        **{"sor_head.sor.weight": 0.1, "cls_score.weight": 0.002},  # probabilities that differ
    }
    for name, value in model.state_dict().items():
        if "fpn_output" in name and name.endswith("bias"):
            value.fill_(1e-4)  # as trained: a pyramid without biases has fewer layers in integers
        for ending, scale in scales.items():
            if name.endswith(ending):
                value.copy_(torch.randn(value.shape, generator=generator) * scale)
    return model
