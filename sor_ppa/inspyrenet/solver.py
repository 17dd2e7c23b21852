"""The published optimiser and learning-rate schedule of InSPyReNet."""

from __future__ import annotations

from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["WarmupPolynomialLR", "build_inspyrenet_lr_scheduler", "build_inspyrenet_optimizer"]


class WarmupPolynomialLR(LRScheduler):
    """Polynomial decay to a floor, under a linear warm-up from a tenth; the smaller of both applies.

    Args:
        optimizer: its groups' rates are the base rates.
        max_iterations: the decay ends here.
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
        """The rate of each group at the current iteration."""
        left = max(1 - self.last_epoch / self.max_iterations, 0.0) ** self.power
        rates: list[float | Tensor] = []
        for base in self.base_lrs:
            rate = (base - self.minimum) * left + self.minimum
            if self.last_epoch < self.warmup_iterations:
                done = self.last_epoch / self.warmup_iterations
                rate = min(rate, base * (0.1 * (1 - done) + done))
            rates.append(rate)
        return rates


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


def build_inspyrenet_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> WarmupPolynomialLR:
    """The schedule of ``SOLVER.MAX_ITER``, ``SOLVER.WARMUP_ITERS`` and ``MODEL.INSPYRENET.LR_*``."""
    return WarmupPolynomialLR(
        optimizer,
        cfg.SOLVER.MAX_ITER,
        power=cfg.MODEL.INSPYRENET.LR_POWER,
        minimum=cfg.MODEL.INSPYRENET.LR_MINIMUM,
        warmup_iterations=cfg.SOLVER.WARMUP_ITERS,
    )
