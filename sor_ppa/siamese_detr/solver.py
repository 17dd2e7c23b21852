"""The published optimiser: AdamW, one weight decay, a slower backbone, the whole gradient clipped."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

__all__ = ["build_optimizer"]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW on every trainable parameter.

    ``SOLVER.BASE_LR`` and ``SOLVER.WEIGHT_DECAY`` hold for all, norms and biases included, except that
    the backbone's rate is multiplied by ``MODEL.SIAMESE_DETR.BACKBONE_LR_FACTOR``. With
    ``SOLVER.CLIP_GRADIENTS.ENABLED`` the norm of the whole gradient is clipped to ``CLIP_VALUE``.

    Raises:
        ValueError: the model has no trainable parameter.
    """
    groups: dict[bool, list[nn.Parameter]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[name.startswith("backbone.")].append(parameter)
    factors = {False: 1.0, True: float(cfg.MODEL.SIAMESE_DETR.BACKBONE_LR_FACTOR)}
    options: list[dict[str, Any]] = [
        {"params": params, "lr": cfg.SOLVER.BASE_LR * factors[backbone]}
        for backbone, params in groups.items()
        if params
    ]
    if not options:
        raise ValueError(
            "model: found no trainable parameter, expected at least one (MODEL.BACKBONE.FREEZE_AT?)"
        )
    clip = float(cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE) if cfg.SOLVER.CLIP_GRADIENTS.ENABLED else 0.0
    optimizer = torch.optim.AdamW(options, lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
    if clip > 0:
        optimizer.register_step_pre_hook(_clipper(clip))
    return optimizer


def _clipper(limit: float) -> Any:
    """A hook that clips the norm of all gradients together before a step."""

    def clip(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        del args, kwargs
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, limit)

    return clip
