"""Which checkpoints of a training are written, kept, and resumed from."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from sor_ppa.checkpoint import CheckpointError
from sor_ppa.training import BestCheckpointHook, NonFiniteError, TrainingCheckpointer


class Counter:
    """A training state: the number of the last iteration."""

    iteration = -1
    start_iter = 0

    def state_dict(self) -> dict[str, int]:
        return {"iteration": self.iteration}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.iteration = state["iteration"]


def checkpointer(folder: Path, **options: int) -> TrainingCheckpointer:
    return TrainingCheckpointer(nn.Linear(2, 2), str(folder), trainer=Counter(), **options)


def write(folder: Path, *iterations: int, **options: int) -> TrainingCheckpointer:
    """Checkpoints as a training writes them, a second apart."""
    writer = checkpointer(folder, **options)
    for iteration in iterations:
        writer.checkpointables["trainer"].iteration = iteration
        writer.save(f"model_{iteration:07d}", iteration=iteration)
        os.utime(folder / f"model_{iteration:07d}.pth", (iteration, iteration))
    return writer


def resumed(folder: Path) -> int:
    reader = checkpointer(folder)
    assert reader.has_checkpoint()
    reader.resume_or_load("")
    return reader.checkpointables["trainer"].iteration


def damage(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_the_last_checkpoint_is_resumed_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 3, 7)
    assert resumed(tmp_path) == 7
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "damaged", ["tag missing", "tag of a missing file", "checkpoint cut", "checksum wrong"]
)
def test_the_newest_whole_checkpoint_is_resumed(
    tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, 3, 7)
    if damaged == "tag missing":
        (tmp_path / "last_checkpoint").unlink()
    elif damaged == "tag of a missing file":
        (tmp_path / "last_checkpoint").write_text("model_0000011.pth")
    elif damaged == "checkpoint cut":
        (tmp_path / "model_0000007.pth.sha256").unlink()
        damage(tmp_path / "model_0000007.pth")
    else:
        (tmp_path / "model_0000007.pth.sha256").write_text("0" * 64)
    expected = 7 if "tag" in damaged else 3
    assert resumed(tmp_path) == expected
    (warning,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.endswith(f"; resuming from {tmp_path}/model_{expected:07d}.pth")
    assert "\n" not in warning


def test_without_a_whole_checkpoint_the_error_is_that_of_the_newest(tmp_path: Path) -> None:
    write(tmp_path, 3, 7)
    for file in tmp_path.glob("*.pth"):
        damage(file)
    with pytest.raises(CheckpointError, match=r"model_0000007\.pth"):
        checkpointer(tmp_path).resume_or_load("")


def test_an_empty_folder_starts_anew(tmp_path: Path) -> None:
    reader = checkpointer(tmp_path)
    assert not reader.has_checkpoint()
    assert reader.resume_or_load("") == {}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_never_written(tmp_path: Path, value: float) -> None:
    writer = write(tmp_path, 3)
    writer.model.bias.data[0] = value
    with pytest.raises(NonFiniteError, match=r"model_0000007\.pth: expected finite values, .*model\.bias"):
        writer.save("model_0000007")
    assert not list(tmp_path.glob("model_0000007*"))
    assert resumed(tmp_path) == 3


def test_the_last_few_are_kept_also_those_of_an_earlier_start(tmp_path: Path) -> None:
    write(tmp_path, 3, 7)
    write(tmp_path, 11, 15, keep=2)
    assert sorted(file.name for file in tmp_path.glob("model*")) == [
        "model_0000011.pth",
        "model_0000011.pth.sha256",
        "model_0000015.pth",
        "model_0000015.pth.sha256",
    ]


def best_of(folder: Path, values: list[float], start: int = 0, mode: str = "max") -> int:
    """Evaluate as a training does; return the iteration of ``model_best.pth``."""
    writer = checkpointer(folder)
    hook = BestCheckpointHook(1, writer, "sor/SA-SOR", mode)
    hook.trainer = Counter()
    hook.trainer.start_iter, hook.trainer.max_iter = start, 100
    hook.before_train()
    with EventStorage() as storage:
        hook.trainer.storage = storage
        for hook.trainer.iter, value in enumerate(values, start):
            storage.iter = hook.trainer.iter
            storage.put_scalar("sor/SA-SOR", value)
            hook.after_step()
    return torch.load(folder / "model_best.pth")["iteration"]


def test_the_best_checkpoint_is_kept_over_resumes(tmp_path: Path) -> None:
    assert best_of(tmp_path, [0.1, 0.5, float("nan"), 0.3]) == 1
    assert best_of(tmp_path, [0.4, 0.45], start=4) == 1
    assert best_of(tmp_path, [0.4, 0.6], start=6) == 7
    assert not (tmp_path / "last_checkpoint").exists()  # a training resumes from the last, not from the best
    assert best_of(tmp_path, [0.2, 0.3], mode="min") == 0
