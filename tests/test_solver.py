"""Optimizers, clipping and schedules."""

from __future__ import annotations

import pytest
import torch
from detectron2.solver import LRMultiplier
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sor_ppa.solver import build_lr_scheduler, build_optimizer
from tests.models import make_cfg


class Grouped(nn.Linear):
    def parameter_groups(self, cfg: object) -> list[dict]:
        return [{"params": [self.weight], "lr": 0.5}, {"params": [self.bias]}]


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_groups_come_from_the_model(name: str) -> None:
    cfg = make_cfg(SOLVER__OPTIMIZER=name, SOLVER__BASE_LR=0.1)
    optimizer = build_optimizer(cfg, Grouped(2, 2))
    assert isinstance(optimizer, getattr(torch.optim, name))
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.1]
    assert optimizer.defaults["fused"]  # several times as fast on a CPU
    assert len(build_optimizer(cfg, nn.Linear(2, 2)).param_groups[0]["params"]) > 0


def test_the_norm_over_all_parameters_is_clipped() -> None:
    cfg = make_cfg(SOLVER__BASE_LR=1.0, SOLVER__MOMENTUM=0.0, SOLVER__WEIGHT_DECAY=0.0)
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = "full_model", 0.1
    model = nn.Linear(3, 3)
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = build_optimizer(cfg, model)
    (model(torch.ones(1, 3)) * 100).sum().backward()
    optimizer.step()
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, model.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.1, rel=1e-3)


def test_the_schedule_is_chosen_by_name() -> None:
    cfg = make_cfg(SOLVER__MAX_ITER=100, SOLVER__STEPS=(50,))
    assert isinstance(build_lr_scheduler(cfg, build_optimizer(cfg, nn.Linear(1, 1))), LRMultiplier)
    cfg = make_cfg("configs/inspyrenet/base.yaml")
    assert isinstance(build_lr_scheduler(cfg, torch.optim.Adam(nn.Linear(1, 1).parameters())), LambdaLR)
