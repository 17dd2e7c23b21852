"""Jobs on this machine, and what SLURM is told; there is no cluster here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.models import REPO
from tools.trials import Training, make_data, same_state, training_words

pytest.importorskip("submitit")
LIMIT = 300  # seconds


def submit(*words: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)}
    if path is not None:
        environment["PATH"] = f"{path}:{os.environ['PATH']}"
    command = [sys.executable, "tools/submit.py", *words]
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as errors,
    ):  # a job keeps pipes open
        status = subprocess.run(command, cwd=REPO, env=environment, stdout=out, stderr=errors, check=False)
        texts = [(file.seek(0), file.read())[1] for file in (out, errors)]
    return subprocess.CompletedProcess(command, status.returncode, *texts)


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder with ``sbatch``, which keeps the script that it is given, and ``srun``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "srun").write_text("#!/bin/sh\n")
    (folder / "sbatch").write_text(f"#!/bin/sh\ncp $1 {tmp_path}/script.sh\necho Submitted batch job 12\n")
    for file in folder.iterdir():
        file.chmod(0o755)
    return folder


def test_slurm_is_told_to_signal_and_to_queue_again(slurm: Path, tmp_path: Path) -> None:
    words = (
        "--nodes 2 --gpus-per-node 8 --hours 1.5 --notice 60 --memory 200 --partition gpu --sbatch qos=low"
    )
    training = ("--config-file", "configs/sor/demo.yaml", "OUTPUT_DIR", str(tmp_path))
    done = submit(*words.split(), "--folder", str(tmp_path / "jobs"), "--", *training, path=slurm)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("job 12, logs in ")
    script = (tmp_path / "script.sh").read_text()
    for line in (
        *("nodes=2", "ntasks-per-node=8", "gpus-per-node=8", "time=90", "mem=200GB", "partition=gpu"),
        *("signal=USR2@60", "requeue", "qos=low", "open-mode=append"),
    ):
        assert f"#SBATCH --{line}\n" in script


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--", "--config-file", "nowhere.yaml"], "nowhere.yaml: expected a config file"),
        (["--", "SOLVER.BASE_RL", "1"], "SOLVER.BASE_RL: expected a configuration key"),
        (["--sbatch", "exclusive", "--", "SEED", "1"], "--sbatch: expected KEY=VALUE, found 'exclusive'"),
        (["--cluster", "local", "--nodes", "2", "--", "SEED", "1"], "LocalExecutor can use only one node"),
        (["--", "SEED", "1"], "srun"),
    ],
)
def test_mistakes_are_said_before_the_job_is_queued(words: list[str], message: str, tmp_path: Path) -> None:
    done = submit("--folder", str(tmp_path), *words)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_preempted_job_goes_on_and_ends_as_if_undisturbed(tmp_path: Path) -> None:
    make_data(tmp_path)
    Training(tmp_path, tmp_path / "whole", processes=2).finish()
    options = ["--cluster", "local", "--gpus-per-node", "0", "--processes-per-node", "2"]
    training = training_words(tmp_path, tmp_path / "out", "centermask", 0)
    done = submit(*options, "--folder", str(tmp_path / "jobs"), "--", *training)
    found = re.match(r"job (\d+), logs in (.+)\n", done.stdout)
    assert found, done.stderr
    job, logs = int(found[1]), Path(found[2])
    end = time.monotonic() + LIMIT
    while not (tmp_path / "out/model_0000003.pth").exists():
        assert time.monotonic() < end, [file.read_text()[-2000:] for file in logs.glob("*.err")]
        time.sleep(0.01)
    # what SLURM sends: the signal goes to all processes, the first one puts the job into the queue again
    for process in Path(f"/proc/{job}/task/{job}/children").read_text().split():
        os.kill(int(process), signal.SIGUSR2)
    while not (tmp_path / "out/model_final.pth").exists():
        assert time.monotonic() < end, [file.read_text()[-2000:] for file in logs.glob("*.err")]
        time.sleep(0.1)
    assert "has a checkpoint, and this training may be restarted" in (tmp_path / "out/log.txt").read_text()
    assert same_state(tmp_path / "out/model_final.pth", tmp_path / "whole/model_final.pth")
