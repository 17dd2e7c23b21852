"""One iteration: accumulated gradients, divergence, mixed precision."""

from __future__ import annotations

import logging
from itertools import repeat
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from sor_ppa.layers import winograd
from sor_ppa.training import NonFiniteError, TrainingStep, amp_dtype
from tests.distributed import run_processes
from tests.models import make_cfg


class Regression(nn.Module):
    """Two losses that depend on batch statistics and on random numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(3)
        self.layer = nn.Linear(3, 2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = torch.stack([sample["image"] for sample in batch])
        if self.norm.training:
            images = self.dropout(self.norm(images))
        first, second = self.layer(images).mean(0)
        return {"loss_a": first.square(), "loss_b": (second + images.mean()).abs()}


class FrozenRegression(Regression):
    """The same without batch statistics and dropout, linear in the images."""

    def train(self, mode: bool = True) -> FrozenRegression:
        super().train(mode)
        self.norm.eval()
        return self

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"loss": torch.stack([self.layer(sample["image"]).square().sum() for sample in batch]).mean()}


def sample(number: int, *, bad: bool = False) -> dict[str, Any]:
    image = torch.from_numpy(np.random.default_rng(number).random(3, np.float32))
    return {"file_name": f"{number}.jpg", "image": torch.full((3,), torch.nan) if bad else image}


BATCH = [sample(i) for i in range(4)]
BROKEN = [sample(0), sample(1, bad=True), sample(2), sample(3)]


def step_of(model: nn.Module, *batches: Any, **options: Any) -> TrainingStep:
    return TrainingStep(model, batches, torch.optim.SGD(model.parameters(), 0.1), **options)


def run(step: TrainingStep, iterations: int = 1) -> dict[str, torch.Tensor]:
    """The model's state after some iterations."""
    with EventStorage() as storage:
        for step.iter in range(iterations):
            storage.iter = step.iter
            step.run_step()
    return {name: value.clone() for name, value in step.model.state_dict().items()}


def test_accumulated_parts_are_one_large_batch() -> None:
    whole, parts = (
        run(step_of(FrozenRegression(), *repeat(BATCH, 3), accumulate=n), iterations=3) for n in (1, 4)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-7)


def test_random_numbers_depend_on_seed_and_iteration_alone() -> None:
    first = run(step_of(Regression(), BATCH, seed=3))
    torch.rand(7)
    assert all(
        torch.equal(value, first[name]) for name, value in run(step_of(Regression(), BATCH, seed=3)).items()
    )
    other = run(step_of(Regression(), BATCH, seed=4))
    assert not torch.equal(other["layer.weight"], first["layer.weight"])


def test_the_first_loss_that_is_not_finite_stops_without_an_update() -> None:
    step = step_of(Regression(), BATCH, BROKEN)
    before = run(step)
    step.iter = 7
    with EventStorage(), pytest.raises(NonFiniteError) as raised:
        step.run_step()
    assert str(raised.value) == (
        "iteration 7: expected finite losses and gradients, "
        "found loss_a nan, loss_b nan, largest gradient nan for 0.jpg, 1.jpg, 2.jpg, 3.jpg"
    )
    assert torch.equal(step.model.state_dict()["layer.weight"], before["layer.weight"])


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    model = FrozenRegression()
    model.layer.weight.register_hook(lambda gradient: gradient * torch.inf)
    with (
        EventStorage(),
        pytest.raises(NonFiniteError, match=r"found loss 0\.\d+, largest gradient (inf|nan)"),
    ):
        step_of(model, BATCH).run_step()


def test_skipped_iterations_leave_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    step = step_of(Regression(), BATCH, BROKEN, BROKEN, BROKEN, max_skipped=2)
    before = run(step)
    with caplog.at_level(logging.WARNING):
        after = run(step, iterations=2)
    assert all(torch.equal(after[name], before[name]) for name in before)  # also the batch statistics
    assert [message.rpartition("; ")[2] for message in caplog.messages] == [
        "skipped (1 in a row, at most 2)",
        "skipped (2 in a row, at most 2)",
    ]
    with pytest.raises(NonFiniteError):
        run(step)


def _step_of_rank() -> str:
    rank = torch.distributed.get_rank()
    model = nn.parallel.DistributedDataParallel(FrozenRegression(), broadcast_buffers=False)
    step = step_of(model, BROKEN if rank == 1 else [sample(9)] * 4)
    with pytest.raises(NonFiniteError) as raised:
        run(step)
    return str(raised.value)


def test_all_processes_stop_and_name_the_images_of_the_one_that_diverged() -> None:
    lines = run_processes(2, _step_of_rank)
    assert lines[0] == lines[1]
    assert "found loss nan" in lines[0]
    assert "1.jpg" in lines[0]
    assert "9.jpg" not in lines[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_is_resumed(dtype: torch.dtype) -> None:
    step = step_of(FrozenRegression(), BATCH, BATCH, dtype=dtype)
    run(step)
    state = step.state_dict()
    assert bool(state["grad_scaler"]) == (dtype == torch.float16)
    other = step_of(FrozenRegression(), BATCH, dtype=dtype)
    other.model.load_state_dict(step.model.state_dict())
    other.load_state_dict(state)
    assert all(torch.equal(*pair) for pair in zip(run(step).values(), run(other).values(), strict=True))


class Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(160, 160, 3, padding=1)

    def forward(self, batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(torch.stack([sample["image"] for sample in batch])).square().mean()}


@pytest.mark.parametrize(("dtype", "fast"), [(torch.float32, 1), (torch.bfloat16, 0)])
def test_large_convolutions_are_fast_in_float32(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, fast: int
) -> None:
    used = []
    plain = winograd.winograd_conv2d

    def counted(*args: torch.Tensor) -> torch.Tensor:
        used.append(1)
        return plain(*args)

    monkeypatch.setattr(winograd, "winograd_conv2d", counted)
    trainer = step_of(Convolution(), [{"image": torch.rand(160, 45, 45)}], dtype=dtype)
    run(trainer)
    assert len(used) == fast


def test_the_number_format_follows_the_config() -> None:
    cfg = make_cfg(None)
    assert amp_dtype(cfg, "cpu") == torch.bfloat16
    assert amp_dtype(cfg, "cuda") == torch.float16
    cfg.SOLVER.AMP.DTYPE = "float16"
    assert amp_dtype(cfg, "cpu") == torch.float16
