"""Single modules and functions against recorded numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from timm.models.res2net import Bottle2neck
from timm.models.resnet import downsample_avg
from torch import nn
from torch.optim import SGD

from sor_ppa.config import load_config
from sor_ppa.inspyrenet.context import AxialBranch, ContextDecoder, ContextEncoder
from sor_ppa.inspyrenet.layers import AxisAttention
from sor_ppa.inspyrenet.sica import ContextAttention
from sor_ppa.solver import build_lr_scheduler

from .fixtures import arrays, check_unit, fill, manifest, unit


def module_of(name: str) -> nn.Module:
    if name.startswith("paa_e"):
        return ContextEncoder(24, 16)
    if name.startswith("selfattn"):
        return AxisAttention(16, name.split("_")[1])
    if name == "sica_lmap_same_grid":
        return ContextAttention(16, 16, (16, 16), with_laplacian=True)
    return {
        "paa_kernel_7": lambda: AxialBranch(24, 16, 7),
        "paa_d": lambda: ContextDecoder(48, 16),
        "sica_nolmap": lambda: ContextAttention(32, 16, (16, 16)),
        "sica_lmap": lambda: ContextAttention(32, 16, (16, 16), with_laplacian=True),
        "res2net_stage_s2": lambda: Bottle2neck(
            32, 16, stride=2, downsample=downsample_avg(32, 64, 1, stride=2), norm_layer=nn.BatchNorm2d
        ),
        "res2net_normal_d2": lambda: Bottle2neck(64, 16, dilation=2, norm_layer=nn.BatchNorm2d),
    }[name]()


EVAL_AND_TRAIN = ["paa_e_square", "paa_e_wide", "paa_d", "sica_nolmap", "sica_lmap"]
EVAL_ONLY = ["selfattn_h_square", "selfattn_w_square", "selfattn_h_wide", "selfattn_w_wide", "paa_kernel_7"]
EVAL_ONLY += ["sica_lmap_same_grid", "res2net_stage_s2", "res2net_normal_d2"]


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, mode) for name in EVAL_AND_TRAIN for mode in ("eval", "train")]
    + [(name, "eval") for name in EVAL_ONLY],
)
def test_module(name: str, mode: str) -> None:
    entry = manifest()["units"]["units"][name]
    module = fill(module_of(name), entry["adjust"]).train(mode == "train")
    if name == "paa_d":
        inputs: list[Any] = [[unit(f"paa_d/in0_{index}") for index in range(3)]]
    else:
        keys = [f"{name}/in{index}" for index in range(3)]
        inputs = [unit(key) for key in keys if key in arrays("units").files]
    if isinstance(module, ContextAttention):
        x, *maps = inputs
        outputs = module([x], (x.shape[2], x.shape[3]), *maps)
    else:
        outputs = module(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    for index, output in enumerate(outputs):
        check_unit(output, f"{name}/{mode}/out{index}")


def test_learning_rate_schedule() -> None:
    entry = manifest()["units"]["units"]["polylr"]
    cfg = load_config("")
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupPolynomialLR"
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = entry["max_iteration"], entry["warmup_iteration"]
    cfg.MODEL.INSPYRENET.LR_POWER, cfg.MODEL.INSPYRENET.LR_MINIMUM = entry["gamma"], entry["minimum_lr"]
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in entry["base_lr"]]
    schedule = build_lr_scheduler(cfg, SGD(groups, lr=1.0))
    for step, rates in entry["lr_at_step"].items():
        schedule.last_epoch = int(step)
        np.testing.assert_allclose(schedule.get_lr(), rates, rtol=1e-9)
