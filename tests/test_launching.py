"""Trainings under torchrun on two machines, which are two agents on this one."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sor_ppa.launching import may_restart
from tools.trials import Training, make_data, same_state

LIMIT = 300  # seconds


def agent(folder: Path, name: str, port: int, options: str = "") -> Training:
    """One machine with one process; all write to ``folder/out``, and "first" holds the rendezvous."""
    settings = "--nnodes 1:2 --nproc-per-node 1 --max-restarts 3 --rdzv-backend c10d --rdzv-id test"
    options_of_place = f"last_call_timeout=4,keep_alive_interval=1,join_timeout=120,is_host={name == 'first'}"
    place = f"--rdzv-endpoint localhost:{port} --local-addr localhost --rdzv-conf {options_of_place}"
    launcher = ["-m", "torch.distributed.run", *settings.split(), *place.split()]
    output = folder / name
    return Training(folder, output, options=f"OUTPUT_DIR {folder / 'out'} {options}", launcher=launcher)


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("localhost", 0))
        return place.getsockname()[1]


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def log(folder: Path) -> str:
    file = folder / "out/log.txt"
    return file.read_text() if file.exists() else ""


def workers(training: Training) -> list[int]:
    return [
        int(pid) for pid in Path(f"/proc/{training.pid}/task/{training.pid}/children").read_text().split()
    ]


@pytest.fixture
def own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/scale_training.md asks."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")


@pytest.mark.slow
@pytest.mark.usefixtures("own_store")
def test_a_killed_worker_is_restarted_and_the_training_ends_as_if_undisturbed(tmp_path: Path) -> None:
    make_data(tmp_path)
    Training(tmp_path, tmp_path / "whole", processes=2).finish()
    port = free_port()
    agents = [agent(tmp_path, name, port) for name in ("first", "second")]
    try:
        wait_for((tmp_path / "out/model_0000003.pth").exists)
        os.kill(workers(agents[1])[0], signal.SIGKILL)
        assert [training.wait() for training in agents] == [0, 0], agents[0].lines()[-20:]
    finally:
        for training in agents:
            training.kill()
    assert "has a checkpoint, and this training may be restarted: resuming" in log(tmp_path)
    assert same_state(tmp_path / "out/model_final.pth", tmp_path / "whole/model_final.pth")


@pytest.mark.slow
@pytest.mark.usefixtures("own_store")
def test_a_training_goes_on_when_a_machine_leaves_and_joins_again(tmp_path: Path) -> None:
    make_data(tmp_path)
    port, options = free_port(), "SOLVER.MAX_ITER 100 SOLVER.CHECKPOINT_PERIOD 2 SOLVER.KEEP_CHECKPOINTS 2"
    first, second = (agent(tmp_path, name, port, options) for name in ("first", "second"))
    try:
        wait_for((tmp_path / "out/model_0000001.pth").exists)
        second.kill()
        wait_for(lambda: "Process 1 of 1" in log(tmp_path))
        second = agent(tmp_path, "again", port, options)
        assert first.wait() == 0, first.lines()[-20:]
        assert second.wait() == 0, second.lines()[-20:]
    finally:
        first.kill()
        second.kill()
    assert re.findall(r"Process 1 of (\d)", log(tmp_path)) == ["2", "1", "2"]
    starts = [int(number) for number in re.findall(r"Starting training from iteration (\d+)", log(tmp_path))]
    assert starts == sorted(starts)
    assert (tmp_path / "out/model_final.pth").exists()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"TORCHELASTIC_MAX_RESTARTS": "0"}, False),
        ({"TORCHELASTIC_MAX_RESTARTS": "3"}, True),
        ({"SUBMITIT_EXECUTOR": "slurm"}, True),
    ],
)
def test_who_restarts(variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_MAX_RESTARTS", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert may_restart() == expected
