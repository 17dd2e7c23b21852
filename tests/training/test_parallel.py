"""Two processes train what one trains, with whole and with split parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from sor_ppa.layers import gathered, is_split, local_part
from sor_ppa.solver import build_optimizer
from sor_ppa.training import TrainingCheckpointer, TrainingStep, replicate, split_parameters
from tests.distributed import run_processes
from tests.models import make_cfg
from tests.training.test_step import BATCH, FrozenRegression, run
from tools.trials import SYSTEMS, Training, make_data

PARALLEL: dict[str, Callable[[nn.Module], nn.Module]] = {"ddp": replicate, "fsdp": split_parameters}


def training(
    parallel: str = "", *, optimizer: str = "SGD", dtype: str = "float32", accumulate: int = 1
) -> TrainingStep:
    """A training on four images, two for each of two processes, with gradient clipping."""
    cfg = make_cfg(None, SOLVER__OPTIMIZER=optimizer, SOLVER__BASE_LR=0.1)
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE = dtype != "float32", dtype
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE, cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE = "full_model", 0.5
    model: nn.Module = FrozenRegression()
    model.norm.requires_grad_(False)
    share = slice(None)
    if parallel == "fsdp":
        model = split_parameters(model)
    built = build_optimizer(cfg, model)
    if parallel == "ddp":
        model = replicate(model)
    if parallel:
        share = slice(dist.get_rank(), None, 2)
    return TrainingStep(model, [BATCH[share]] * 3, built, dtype=getattr(torch, dtype), accumulate=accumulate)


def state_of(step: TrainingStep) -> dict[str, torch.Tensor]:
    """Parameters after the training, and their last gradients, whole."""
    found = {name.removeprefix("module."): gathered(value) for name, value in run(step, 3).items()}
    for name, parameter in step.model.named_parameters():
        if parameter.grad is not None:
            found[f"gradient of {name.removeprefix('module.')}"] = gathered(parameter.grad)
    return found


def trained(parallel: str, options: dict[str, Any]) -> dict[str, torch.Tensor]:
    return state_of(training(parallel, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "SGD"},
        {"optimizer": "AdamW", "accumulate": 2},
        {"dtype": "bfloat16"},
        {"dtype": "float16"},
    ],
    ids=["sgd", "adamw-accumulated", "bfloat16", "float16"],
)
@pytest.mark.parametrize("parallel", PARALLEL)
def test_two_processes_learn_what_one_learns(parallel: str, options: dict[str, Any]) -> None:
    expected = state_of(training(**options))
    exact = "dtype" not in options
    tolerance = {"rtol": 1e-5, "atol": 1e-7} if exact else {"rtol": 2e-2, "atol": 1e-3}
    for found in run_processes(2, trained, parallel, options):
        torch.testing.assert_close(found, expected, **tolerance)


def held_by_a_process() -> tuple[int, int]:
    """Numbers of a process: of the parameters, and of the optimizer's state."""
    step = training("fsdp", optimizer="AdamW")
    run(step, 1)
    parameters = list(step.model.parameters())
    states = [value for state in step.optimizer.state.values() for value in state.values() if is_split(value)]
    return tuple(sum(local_part(value).numel() for value in values) for values in (parameters, states))


def test_each_process_holds_a_part() -> None:
    total = sum(parameter.numel() for parameter in FrozenRegression().parameters())
    held = run_processes(2, held_by_a_process)
    assert sum(parameters for parameters, _ in held) == total
    trained_parameters = sum(parameter.numel() for parameter in FrozenRegression().layer.parameters())
    assert sum(states for _, states in held) == 2 * trained_parameters  # two means of AdamW


def saved_and_resumed(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The end of a training of split parameters, and of another that resumes after its first iteration."""
    step = training("fsdp", optimizer="AdamW")
    run(step, 1)
    TrainingCheckpointer(step.model, str(folder), step=step).save("model_0000000", iteration=0)
    dist.barrier()
    other = training("fsdp", optimizer="AdamW")
    TrainingCheckpointer(other.model, str(folder), step=other).resume_or_load("", resume=True)
    ends = []
    for training_step in (step, other):
        run(training_step, 2)
        ends.append({name: gathered(value) for name, value in training_step.model.state_dict().items()})
    return ends[0], ends[1]


def test_a_checkpoint_of_split_parameters_is_whole_and_resumed(tmp_path: Path) -> None:
    for uninterrupted, resumed in run_processes(2, saved_and_resumed, tmp_path):
        torch.testing.assert_close(resumed, uninterrupted, rtol=0, atol=0)
    alone = training(optimizer="AdamW")
    TrainingCheckpointer(alone.model, str(tmp_path), step=alone).resume_or_load("", resume=True)
    run(alone, 2)
    torch.testing.assert_close(dict(alone.model.state_dict()), uninterrupted, rtol=1e-5, atol=1e-7)


def start_weights() -> torch.Tensor:
    model = FrozenRegression()
    nn.init.constant_(model.layer.weight, dist.get_rank() + 1.0)
    return gathered(split_parameters(model).layer.weight)


def test_all_processes_start_with_the_weights_of_the_first() -> None:
    assert all(bool((weights == 1).all()) for weights in run_processes(2, start_weights))


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_learns_the_same_with_split_parameters(system: str, tmp_path: Path) -> None:
    make_data(tmp_path)
    ends = []
    for parallel in PARALLEL:
        # Adam turns rounding errors of tiny gradients into steps of full size
        options = f"SOLVER.MAX_ITER 3 SOLVER.PARALLEL {parallel} SOLVER.OPTIMIZER SGD"
        Training(tmp_path, tmp_path / parallel, system, processes=2, options=options).finish()
        ends.append(torch.load(tmp_path / parallel / "model_final.pth")["model"])
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        difference, size = (ends[1][name] - value).double().norm(), value.double().norm()
        assert difference <= 1e-4 * size + 1e-6, name
