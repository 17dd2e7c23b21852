"""The published optimiser and learning-rate schedule of InSPyReNet."""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import nn
from torch.optim import Adam, Optimizer

__all__ = ["build_inspyrenet_optimizer"]


def build_inspyrenet_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Adam with ``SOLVER.BASE_LR`` for the encoder and ``DECODER_LR_FACTOR`` times that for the rest.

    Args:
        cfg: reads SOLVER.BASE_LR, SOLVER.WEIGHT_DECAY and MODEL.INSPYRENET.DECODER_LR_FACTOR.
        model: whose parameters under a module called ``backbone`` are the encoder's.
    """
    encoder: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (encoder if "backbone" in name.split(".") else rest).append(parameter)
    rate = cfg.SOLVER.BASE_LR
    groups = [
        {"params": encoder, "lr": rate},
        {"params": rest, "lr": rate * cfg.MODEL.INSPYRENET.DECODER_LR_FACTOR},
    ]
    return Adam([group for group in groups if group["params"]], lr=rate, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
