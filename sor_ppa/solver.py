"""Optimizers, gradient clipping and learning-rate schedules, as ``SOLVER`` describes them."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver import build_lr_scheduler as build_detectron2_scheduler
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["WarmupPolynomialLR", "build_lr_scheduler", "build_optimizer"]

_OPTIMIZERS = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Return the optimizer ``SOLVER.OPTIMIZER``, with gradient clipping as configured.

    Its parameter groups are those of the model's method ``parameter_groups(cfg)``, else detectron2's.

    Args:
        cfg: reads ``SOLVER``.
        model: to train.
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


class WarmupPolynomialLR(LRScheduler):
    """Polynomial decay to a minimum, limited by a linear warm-up from a tenth of the rate (InSPyReNet).

    Args:
        optimizer: the rates of its groups are the base rates.
        max_iterations: end of the decay.
        power: exponent of the decay.
        minimum: learning rate at the end.
        warmup_iterations: length of the warm-up.
        last_epoch: iterations done, -1 at the start.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iterations: int,
        power: float = 0.9,
        minimum: float = 1e-7,
        warmup_iterations: int = 12000,
        last_epoch: int = -1,
    ) -> None:
        self.max_iterations = max_iterations
        self.power = power
        self.minimum = minimum
        self.warmup_iterations = warmup_iterations
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the rate of each group at the current iteration."""
        left = max(1 - self.last_epoch / self.max_iterations, 0.0) ** self.power
        rates: list[float | Tensor] = []
        for base in self.base_lrs:
            rate = (base - self.minimum) * left + self.minimum
            if self.last_epoch < self.warmup_iterations:
                done = self.last_epoch / self.warmup_iterations
                rate = min(rate, base * (0.1 * (1 - done) + done))
            rates.append(rate)
        return rates


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Return the schedule "WarmupPolynomialLR", or one of detectron2's.

    Args:
        cfg: reads ``SOLVER`` and, for the polynomial, ``MODEL.INSPYRENET.LR_POWER`` and ``LR_MINIMUM``.
        optimizer: to schedule.
    """
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupPolynomialLR":
        return build_detectron2_scheduler(cfg, optimizer)
    return WarmupPolynomialLR(
        optimizer,
        cfg.SOLVER.MAX_ITER,
        power=cfg.MODEL.INSPYRENET.LR_POWER,
        minimum=cfg.MODEL.INSPYRENET.LR_MINIMUM,
        warmup_iterations=cfg.SOLVER.WARMUP_ITERS,
    )
