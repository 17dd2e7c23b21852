#!/usr/bin/env python
"""Submit a training to SLURM. It is queued again, and resumes, when it is preempted or its time is over.

Options of train_net.py follow after ``--``. The job runs in the current folder; OUTPUT_DIR must be on a disk
that all machines share. Needs submitit (pip install submitit).

Example:
    python tools/submit.py --nodes 2 --gpus-per-node 8 --hours 24 --partition gpu \\
        -- --config-file configs/sor/ppa.yaml OUTPUT_DIR output/ppa
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import submitit
from detectron2.engine import default_argument_parser
from submitit.helpers import DelayedSubmission, TorchDistributedEnvironment

from sor_ppa.cli.train import main as train
from sor_ppa.config import ConfigError, load_config

_RESTARTS = 100  # times that a job may use up its time; preemptions do not count


class TrainingJob:
    """One process of a training, which submitit starts and, after a preemption, starts again.

    Args:
        words: options of ``train_net.py``.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)

    def __call__(self) -> None:
        """Train; the last checkpoint of ``OUTPUT_DIR`` is resumed if there is one."""
        # the training chooses its GPU by LOCAL_RANK
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        try:
            train(self.words)
        except SystemExit as leaving:
            if isinstance(leaving.code, str):
                raise RuntimeError(leaving.code) from None  # submitit reports no other kind of end
            raise

    def checkpoint(self) -> DelayedSubmission:
        """Return what submitit puts into the queue after a preemption: the same."""
        return DelayedSubmission(self)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("words", nargs="+", metavar="WORD", help="options of train_net.py, after --")
    parser.add_argument("--cluster", choices=("slurm", "local"), default="slurm", help="default: slurm")
    parser.add_argument("--folder", type=Path, default="output/jobs", help="of logs (default: output/jobs)")
    parser.add_argument("--name", default="sor_ppa", help="of the job (default: sor_ppa)")
    parser.add_argument("--nodes", type=int, default=1, help="machines (default: 1)")
    parser.add_argument(
        "--gpus-per-node", type=int, default=1, help="0: CPU processes that talk by gloo (default: 1)"
    )
    parser.add_argument("--processes-per-node", type=int, help="default: one for each GPU, at least one")
    parser.add_argument("--cpus-per-process", type=int, default=8, help="default: 8")
    parser.add_argument("--memory", type=int, metavar="GB", help="of each machine")
    parser.add_argument("--hours", type=float, default=24, help="limit of each start (default: 24)")
    parser.add_argument(
        "--notice", type=int, default=120, metavar="SECONDS", help="between signal and end (default: 120)"
    )
    parser.add_argument("--partition")
    parser.add_argument(
        "--sbatch", action="append", default=[], metavar="KEY=VALUE", help="more options, such as qos=low"
    )
    return parser


def executor(options: argparse.Namespace) -> submitit.AutoExecutor:
    """Return the executor that the options describe."""
    tries = {"slurm_max_num_timeout": _RESTARTS, "local_max_num_timeout": _RESTARTS}
    found = submitit.AutoExecutor(folder=options.folder / "%j", cluster=options.cluster, **tries)
    more: dict[str, Any] = {"requeue": True}  # also after the failure of a machine
    more |= dict(item.split("=", 1) for item in options.sbatch)
    found.update_parameters(
        name=options.name,
        nodes=options.nodes,
        gpus_per_node=options.gpus_per_node,
        tasks_per_node=options.processes_per_node or max(1, options.gpus_per_node),
        cpus_per_task=options.cpus_per_process,
        mem_gb=options.memory,
        timeout_min=round(60 * options.hours),
        slurm_partition=options.partition,
        slurm_signal_delay_s=options.notice,
        slurm_additional_parameters=more,
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Submit a training and print the number of its job; return the exit status."""
    parser = get_parser()
    options = parser.parse_args(arguments)
    if wrong := [item for item in options.sbatch if "=" not in item]:
        parser.error(f"--sbatch: expected KEY=VALUE, found {wrong[0]!r}")
    training = default_argument_parser().parse_args(options.words)
    try:
        load_config(training.config_file, training.opts)  # fail before the job waits in the queue
        job = executor(options).submit(TrainingJob(options.words))
    except (ConfigError, RuntimeError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"job {job.job_id}, logs in {job.paths.folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
