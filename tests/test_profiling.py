"""Parameters, operations, time and memory of a model and of its parts."""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import DeformConv2d

from sor_ppa import profiling
from sor_ppa.cpu_inference import tune_for_inference
from sor_ppa.profiling import count_flops, peak_memory, profile_model
from tests.siamese_detr.tiny import tiny_cfg

MIB = 2**20


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = DeformConv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, x.new_zeros(1, 18, 6, 8))


def attend(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def sample(x: Tensor) -> Tensor:
    return F.grid_sample(x, torch.zeros(1, 5, 7, 2), align_corners=False)


def bag(x: Tensor) -> Tensor:
    return F.embedding_bag(
        torch.zeros(6, 4, dtype=torch.int64), x, per_sample_weights=torch.ones(6, 4), mode="sum"
    )


@pytest.mark.parametrize(
    ("module", "shape", "flops"),
    [
        (nn.Linear(5, 7), (3, 5), 2 * 3 * 5 * 7),
        (nn.Conv2d(3, 4, 3, groups=1), (1, 3, 8, 10), 2 * (6 * 8) * 4 * 3 * 9),
        (nn.Conv2d(4, 4, 3, groups=4), (2, 4, 8, 10), 2 * 2 * (6 * 8) * 4 * 9),
        (Deformable(), (1, 3, 8, 10), 2 * (6 * 8) * 4 * 3 * 9 + 8 * (6 * 8) * 3 * 9),
        (Call(attend), (2, 4, 6, 8), 2 * (2 * 4) * (6 * 6 * 8) * 2),
        (nn.MultiheadAttention(8, 2), (6, 1, 8), 2 * 6 * 8 * 8 * 4 + 2 * (6 * 6 * 8) * 2),
        (Call(sample), (1, 3, 9, 9), 8 * 3 * 5 * 7),
        (Call(bag), (10, 16), 2 * 6 * 4 * 16),
        (nn.BatchNorm2d(3), (1, 3, 4, 4), 0),
    ],
)
def test_flops_equal_those_counted_by_hand(module: nn.Module, shape: tuple[int, ...], flops: int):
    module.eval().requires_grad_(False)
    x = torch.zeros(shape)
    model = Call(lambda x: module(x, x, x)) if isinstance(module, nn.MultiheadAttention) else module
    assert count_flops(model, x).total() == flops


def test_flops_of_a_tuned_linear_layer_are_the_same():
    model = tune_for_inference(nn.Sequential(nn.Linear(5, 7)))
    assert count_flops(model, torch.zeros(3, 5)).total() == 2 * 3 * 5 * 7


class Ticking(nn.Module):
    """A module whose own work takes one tick before and one after its submodules."""

    def __init__(self, now: list[int], **parts: nn.Module) -> None:
        super().__init__()
        self.now = now
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Any) -> Any:
        self.now[0] += 1
        for part in self.children():
            part(x)
        self.now[0] += 1


def test_a_part_is_charged_its_own_work_and_that_of_modules_below_the_depth():
    now = [0]
    shared = Ticking(now)
    model = Ticking(now, a=Ticking(now, b=Ticking(now, c=shared)), d=shared)
    names = profiling._part_names(model, 2)
    with profiling._attributed(names, lambda: now[0]) as ticks:
        model(None)
        now[0] += 5  # outside of the model
    assert dict(ticks) == {"": 7, "a": 2, "a.b": 6}


def test_a_shared_parameter_is_counted_once():
    shared = nn.Linear(3, 2)
    model = nn.ModuleDict(
        {"a": nn.Sequential(shared), "b": nn.ModuleDict({"c": shared, "d": nn.Linear(2, 1)})}
    )
    counts = profiling._count_parameters(model, profiling._part_names(model, 1))
    assert dict(counts) == {"": 0, "a": 8, "b": 3}


@pytest.fixture
def known_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not measured: a new process takes seconds."""
    monkeypatch.setattr(profiling, "peak_memory", lambda *_: (1, 2))


@pytest.mark.parametrize("meta", ["DETRDetector", "RankingDETR", "SiameseDETR"])
def test_figures_of_parts_sum_to_the_whole(meta: str, known_memory: None):
    cfg = tiny_cfg(meta)
    whole, parts = (profile_model(cfg, (64, 96), 2, repeats=1, depth=depth) for depth in (0, 2))
    assert len(whole.parts) == 1
    assert len(parts.parts) > 5
    assert parts.total.parameters == whole.total.parameters
    assert parts.total.flops == whole.total.flops > 0
    assert parts.to_json()["total"]["seconds"] == pytest.approx(sum(part.seconds for part in parts.parts))
    model = profiling._build(cfg, tuned=False)
    assert whole.total.parameters == sum(p.numel() for p in model.parameters())


def test_two_images_take_twice_the_operations_of_one(known_memory: None):
    one, two = (profile_model(tiny_cfg("DETRDetector"), (64, 64), n, repeats=1) for n in (1, 2))
    assert two.total.flops == 2 * one.total.flops
    assert two.total.parameters == one.total.parameters


def test_time_is_read_after_the_gpu_has_finished(monkeypatch: pytest.MonkeyPatch):
    events: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(f"wait for {device}"))
    monkeypatch.setattr(time, "perf_counter", lambda: float(events.append("read") or len(events)))
    read = profiling._clock(torch.device("cuda:0"))
    model = Call(lambda _: events.append("run"))
    profiling._duration(read, model, None)
    assert events == ["wait for cuda:0", "read", "run", "wait for cuda:0", "read"]


@pytest.mark.slow
def test_memory_is_that_of_the_call_alone():
    mine = np.ones(200 * MIB, np.uint8)  # of this process
    before, peak = peak_memory(functools.partial, operator.mul, b"x", 300 * MIB)
    assert mine.all()
    assert 295 * MIB < peak - before < 320 * MIB


@pytest.mark.parametrize(
    "wrong", [{"size": (0, 5)}, {"size": (5, 5), "batch": 0}, {"size": (5, 5), "repeats": 0}]
)
def test_numbers_that_are_not_positive_are_refused(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="profile: expected positive numbers, found "):
        profile_model(tiny_cfg("DETRDetector"), **wrong)
