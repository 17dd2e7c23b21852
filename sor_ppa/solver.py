"""Optimizers, gradient clipping and learning-rate schedules, as ``SOLVER`` describes them."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as build_detectron2_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from .layers import is_split

__all__ = ["build_lr_scheduler", "build_optimizer"]

_OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Return the optimizer ``SOLVER.OPTIMIZER``, with gradient clipping as configured.

    Its parameter groups are those of the model's method ``parameter_groups(cfg)``, else detectron2's.
    """
    groups: Any = getattr(model, "parameter_groups", None)
    if groups is not None:
        params = groups(cfg)
    else:
        params = get_default_optimizer_params(
            model,
            base_lr=cfg.SOLVER.BASE_LR,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
            bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        )
    options: dict[str, Any] = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY}
    if cfg.SOLVER.OPTIMIZER == "SGD":
        options |= {"momentum": cfg.SOLVER.MOMENTUM, "nesterov": cfg.SOLVER.NESTEROV}
    first, amp = next(model.parameters()), cfg.SOLVER.AMP
    # on a CPU, torch's fused SGD takes no split parameters, and it ignores the scale of float16 gradients
    if first.device.type == "cpu" and not is_split(first) and not (amp.ENABLED and amp.DTYPE == "float16"):
        options["fused"] = True  # one pass over the memory instead of five or more
    return _with_clipping(cfg, _OPTIMIZERS[cfg.SOLVER.OPTIMIZER])(params, **options)


def _with_clipping(cfg: CfgNode, kind: type[torch.optim.Optimizer]) -> Any:
    """Return the optimizer class with gradient clipping as ``SOLVER.CLIP_GRADIENTS`` says.

    Beside detectron2's types there is "full_model": the norm over all parameters together.
    """
    options = cfg.SOLVER.CLIP_GRADIENTS
    if not options.ENABLED or options.CLIP_TYPE != "full_model":
        return maybe_add_gradient_clipping(cfg, kind)

    class FullModelClipping(kind):  # type: ignore[valid-type,misc]
        def step(self, closure: Any = None) -> Any:
            params = [p for group in self.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(params, options.CLIP_VALUE, options.NORM_TYPE)
            return super().step(closure)

    return FullModelClipping


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Return the schedule "WarmupPolynomialLR", or one of detectron2's.

    The former is that of InSPyReNet: polynomial decay with ``MODEL.INSPYRENET.LR_POWER`` to ``LR_MINIMUM``,
    limited by a linear warm-up from a tenth of the rate.
    """
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupPolynomialLR":
        return build_detectron2_scheduler(cfg, optimizer)
    power, minimum = cfg.MODEL.INSPYRENET.LR_POWER, cfg.MODEL.INSPYRENET.LR_MINIMUM

    def factor(iteration: int, base: float) -> float:
        left = max(1 - iteration / cfg.SOLVER.MAX_ITER, 0.0) ** power
        decayed = left + (1 - left) * minimum / max(base, 1e-12)
        warmup = cfg.SOLVER.WARMUP_ITERS
        return min(decayed, 0.1 + 0.9 * iteration / warmup) if iteration < warmup else decayed

    bases = [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [partial(factor, base=base) for base in bases])
