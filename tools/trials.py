#!/usr/bin/env python
"""Break trainings on purpose and count how they take it. ``make trials`` runs this.

Small models train on small pictures on the CPU. Each trial starts ``train_net.py`` as a user does:

    kills     kill -9 at random moments and while a checkpoint is written, then --resume: the weights and the
              optimizer must be those of an uninterrupted training, bit by bit
    parents   kill -9 the process that started the others: none may train on
    workers   kill -9 a process that reads images: the training must end with a reason
    pictures  broken images: reported and replaced up to DATALOADER.MAX_UNREADABLE, else one line
    disks     a full disk: one line, and the last checkpoint stays whole (needs root, to mount a small disk)

Example:
    python tools/trials.py kills --count 20
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from sor_ppa.data.synthetic import SyntheticSpec, write_dataset

REPO = Path(__file__).resolve().parents[1]
LIMIT = 600  # seconds for one training
PATIENCE = 60  # seconds until the processes of a dead parent or worker must have ended
BATCH = "SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (64,)"
COMMON = """MODEL.DEVICE cpu MODEL.WEIGHTS "" SOLVER.MAX_ITER 12 SOLVER.CHECKPOINT_PERIOD 4 DATASETS.TEST ()
    DETERMINISTIC True SEED 1"""
# what is trained: a configuration and what makes it small
SYSTEMS = {
    "centermask": ("configs/sor/demo.yaml", BATCH),
    "mask_rcnn": ("configs/sor/exp/maskrcnn-demo.yaml", BATCH),
    "salience_detr": ("configs/salience_detr/demo.yaml", BATCH),
    "ranking_detr": (
        "configs/siamese_detr/synthetic/rank.yaml",
        f"{BATCH} MODEL.SIAMESE_DETR.DROPOUT 0.1 INPUT.MAX_SIZE_TRAIN 128",
    ),
    "siamese_detr": (
        "configs/siamese_detr/synthetic/pretrain.yaml",
        """SOLVER.IMS_PER_BATCH 4 INPUT.TWO_VIEWS.MIN_SIZES [64] INPUT.TWO_VIEWS.PROPOSALS.METHOD random
        MODEL.SIAMESE_DETR.DROPOUT 0.1 MODEL.SIAMESE_DETR.PRETRAIN.NUM_REGIONS 5""",
    ),
    "inspyrenet": (
        "configs/inspyrenet/inspyrenet_res2net50.yaml",
        """SOLVER.IMS_PER_BATCH 4 MODEL.INSPYRENET.BASE_SIZE 64 MODEL.INSPYRENET.DEPTH 16
        MODEL.INSPYRENET.BACKBONE_WEIGHTS "" DATASETS.TRAIN ("toy",)""",
    ),
}


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def make_data(root: Path) -> None:
    """Write a ranking dataset and a saliency dataset of small pictures."""
    write_dataset(root / "synthetic_sor", SyntheticSpec({"train": 12, "val": 1, "test": 1}, (64, 64, 96, 96)))
    generator = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / "toy" / folder).mkdir(parents=True)
    for number in range(12):
        mask = np.zeros((64, 64), np.uint8)
        cv2.circle(mask, tuple(map(int, generator.integers(16, 48, 2))), 12, 255, -1)
        image = generator.integers(0, 128, (64, 64, 3)).astype(np.uint8) + mask[..., None] // 2
        cv2.imwrite(str(root / f"toy/images/{number}.png"), image)
        cv2.imwrite(str(root / f"toy/masks/{number}.png"), mask)


def training_words(data: Path, output: Path, system: str, workers: int) -> list[str]:
    """Return the words of a command that trains a small system."""
    config, options = SYSTEMS[system]
    words = [word.replace('""', "") for word in f"{COMMON} {options}".split()]
    words += ["DATALOADER.NUM_WORKERS", str(workers), "DATASETS.SOD", f"['toy={data / 'toy'}']"]
    return [
        "--config-file",
        str(REPO / config),
        *words,
        "DATASETS.ROOT",
        str(data),
        "OUTPUT_DIR",
        str(output),
    ]


def start(
    data: Path, output: Path, system: str, workers: int = 0, processes: int = 1, *, more: str = ""
) -> subprocess.Popen[str]:
    """Start or resume a training in a session of its own, with SIGINT ignored as under ``nohup ... &``."""
    flags = ["--resume", "--num-gpus", str(processes)] if processes > 1 else ["--resume"]
    output.mkdir(parents=True, exist_ok=True)
    with (output / "out.txt").open("a") as file:
        return subprocess.Popen(
            [
                sys.executable,
                "train_net.py",
                *flags,
                *training_words(data, output, system, workers),
                *more.split(),
            ],
            cwd=REPO,
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        )


def last_line(output: Path) -> str:
    """Return the last line that a training printed."""
    lines = (output / "out.txt").read_text().strip().splitlines()
    return lines[-1] if lines else ""


def finish(process: subprocess.Popen[str], output: Path) -> None:
    """Wait for the end of a training; raise if it fails."""
    if process.wait(LIMIT) != 0:
        raise RuntimeError(f"{output}: {last_line(output)}")


def processes_of(session: int) -> list[int]:
    """Return the living processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def _children(parents: set[int], session: int) -> set[int]:
    """Return the living processes of a session that these have started."""
    found = set()
    for pid in processes_of(session):
        with suppress(OSError):
            parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            found |= {pid} if parent in parents else set()
    return found


def kill_all(session: int) -> None:
    """Kill -9 every process of a session."""
    for pid in processes_of(session):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def digest(file: Path) -> str:
    """Return the SHA-256 of a checkpoint's model, optimizer and schedule."""
    total = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, dict):
            for key in value:
                total.update(repr(key).encode())
                add(value[key])
        elif isinstance(value, (list, tuple)):
            for item in value:
                add(item)
        elif isinstance(value, torch.Tensor):
            total.update(value.detach().contiguous().numpy().tobytes())
        else:
            total.update(repr(value).encode())

    state = torch.load(file, weights_only=False)
    add({"model": state["model"], "trainer": state["trainer"], "iteration": state["iteration"]})
    return total.hexdigest()


class Trials:
    """Trials in a folder, with data that they share.

    Args:
        folder: of the data and of the trainings.
        count: trials of each kind.
        seed: of the moments at which they strike.
    """

    def __init__(self, folder: Path, count: int, seed: int) -> None:
        self.folder, self.count = folder, count
        self.random = random.Random(seed)
        self.data = folder / "data"
        make_data(self.data)
        self.reference = cache(self._reference)

    def _reference(self, system: str, processes: int) -> tuple[str, float]:
        """Return the digest of an uninterrupted training, and its seconds."""
        output = self.folder / f"whole_{system}_{processes}"
        begin = time.monotonic()
        finish(start(self.data, output, system, 0, processes), output)
        return digest(output / "model_final.pth"), time.monotonic() - begin

    def kills(self) -> Iterator[tuple[bool, str]]:
        """Kill trainings and resume them."""
        for number in range(self.count):
            system = list(SYSTEMS)[number % len(SYSTEMS)]
            turn = number % len(SYSTEMS) + number // len(SYSTEMS)
            processes, workers = (2 if turn % 4 == 3 else 1), 2 * (number % 2)
            expected, seconds = self.reference(system, processes)
            output, kills = self.folder / f"killed_{number}", []
            for _ in range(self.random.randint(1, 2)):
                process = start(self.data, output, system, workers, processes)
                kills.append(self._strike(process, output, seconds))
            finish(start(self.data, output, system, workers, processes), output)
            final = output / "model_final.pth"
            equal = final.is_file() and digest(final) == expected
            yield equal, f"{system}, {processes} process(es), {workers} workers, killed {' and '.join(kills)}"
            shutil.rmtree(output)

    def _strike(self, process: subprocess.Popen[str], output: Path, seconds: float) -> str:
        """Kill a training that takes some seconds, at a random moment; return when."""

        def found(pattern: str) -> int:
            return len(list(output.glob(pattern)))

        at_write, after = self.random.random() < 0.5, self.random.randint(0, 3)
        while process.poll() is None and found("model_0*.pth") < after:
            time.sleep(0.002)
        end = time.monotonic() + self.random.random() * seconds / (1 if after == 0 else 6)
        while process.poll() is None and not (found("*.part") if at_write else time.monotonic() > end):
            time.sleep(0.0005 if at_write else 0.01)
        if process.poll() is not None:
            return "after the end"
        kill_all(process.pid)
        process.wait()
        files = f"after {found('model_0*.pth')} checkpoints"
        return f"{files}, in writing {self._unfinished(output)}" if at_write else files

    @staticmethod
    def _unfinished(output: Path) -> str:
        return ", ".join(file.name for file in output.glob("*.part")) or "(just finished)"

    def parents(self) -> Iterator[tuple[bool, str]]:
        """Kill the process that started the others."""
        for number in range(self.count):
            output, workers = self.folder / f"parent_{number}", 2 * (number % 2)
            process = start(self.data, output, "centermask", workers, 2, more="SOLVER.MAX_ITER 100000")
            _, seconds = self.reference("centermask", 2)
            time.sleep(self.random.uniform(0.3, 1.2) * seconds)
            before = len(processes_of(process.pid))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            left, seconds = _wait_for(partial(_has_ended, process.pid))
            yield left, f"{before} processes, {workers} workers each: all ended after {seconds:.1f} s"
            kill_all(process.pid)
            shutil.rmtree(output)

    def workers(self) -> Iterator[tuple[bool, str]]:
        """Kill a process that reads images, when it starts or later."""
        for number in range(self.count):
            output = self.folder / f"worker_{number}"
            processes = 1 + number % 2
            process = start(self.data, output, "centermask", 2, processes, more="SOLVER.MAX_ITER 100000")
            deadline = time.monotonic() + LIMIT
            readers: set[int] = set()
            while not readers and time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.001)
                if "Starting training" in (output / "out.txt").read_text():  # programs ran before
                    trainers = _children({process.pid}, process.pid) if processes > 1 else {process.pid}
                    readers = _children(trainers, process.pid)
            delay = 0.0 if number % 4 < 2 else self.random.uniform(0, 6)
            time.sleep(delay)
            victim = self.random.choice(sorted(readers))
            os.kill(victim, signal.SIGKILL)
            ended, seconds = _wait_for(partial(_has_returned, process))
            line = last_line(output)
            good = (
                ended
                and process.returncode != 0
                and line.startswith("error: ")
                and "DataLoader worker" in line
            )
            yield good, f"killed {delay:.1f} s after its start: ended after {seconds:.1f} s: {line}"
            kill_all(process.pid)
            shutil.rmtree(output)

    def pictures(self) -> Iterator[tuple[bool, str]]:
        """Train on broken pictures."""
        broken = self.folder / "broken"
        shutil.copytree(self.data, broken)
        victims = sorted((broken / "synthetic_sor").rglob("train*.jpg"))
        wide = np.zeros((10, 30000, 3), np.uint8)
        damages: list[tuple[str, Callable[[Path], object]]] = [
            ("empty", lambda file: file.write_bytes(b"")),
            ("cut", lambda file: file.write_bytes(file.read_bytes()[:300])),
            ("text", lambda file: file.write_text("no picture")),
            ("30000x10", lambda file: cv2.imwrite(str(file), wide)),
            ("missing", lambda file: file.unlink()),
        ]
        for number in range(self.count):
            name, damage = damages[number % len(damages)]
            share, workers = (0.5, 0.01)[number // 2 % 2], 2 * (number % 2)
            victim = victims[number % len(victims)]
            whole = victim.read_bytes()
            damage(victim)
            output = self.folder / f"picture_{number}"
            more = f"DATALOADER.MAX_UNREADABLE {share} SOLVER.CHECKPOINT_PERIOD 100"
            process = start(broken, output, "centermask", workers, more=more)
            process.wait(LIMIT)
            text = (output / "out.txt").read_text()
            lines = [line for line in text.splitlines() if victim.name in line]
            good = len(lines) == 1 and "Traceback" not in text
            good &= process.returncode == 0 if share > 0.1 else lines[0:1] == [last_line(output)]
            yield good, f"{name}, {workers} workers, limit {share}: {lines[-1] if lines else 'no line'}"
            victim.write_bytes(whole)
            shutil.rmtree(output)

    def disks(self) -> Iterator[tuple[bool, str]]:
        """Train on a disk that fills up."""
        state = self.folder / "whole_centermask_1"
        self.reference("centermask", 1)
        size = (state / "model_final.pth").stat().st_size
        for _ in range(self.count):
            space = int(size * self.random.uniform(0.2, 3.5))
            with _small_disk(self.folder / "disk", space) as disk:
                if disk is None:
                    say("  disks: skipped, a small disk cannot be mounted here")
                    return
                output = disk / "run"
                process = start(self.data, output, "centermask")
                process.wait(LIMIT)
                line = last_line(output)
                whole = sorted(output.glob("model_*.pth"))
                for file in whole:
                    digest(file)
                good = process.returncode != 0 and not list(output.glob("*.part"))
                good &= line.startswith("error: ") and "disk full" in line
                yield good, f"{space / 2**20:.0f} MiB: {len(whole)} whole checkpoints, {line}"


def _has_ended(session: int) -> bool:
    return not processes_of(session)


def _has_returned(process: subprocess.Popen[str]) -> bool:
    return process.poll() is not None


def _wait_for(condition: Callable[[], bool]) -> tuple[bool, float]:
    """Wait until a condition holds; return whether it does, and the seconds."""
    begin = time.monotonic()
    while not condition() and time.monotonic() - begin < PATIENCE:
        time.sleep(0.05)
    return condition(), time.monotonic() - begin


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[Path | None]:
    """Mount a disk of some bytes in memory; None where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def main(arguments: list[str] | None = None) -> int:
    """Run trials, print them and their counts; return 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    kinds = ("kills", "parents", "workers", "pictures", "disks")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(kinds)} (default: all)")
    parser.add_argument("--count", type=int, default=20, help="trials of each kind (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the moments at which they strike (default: 0)"
    )
    args = parser.parse_args(arguments)
    if unknown := set(args.kinds) - set(kinds):
        parser.error(f"KIND: expected some of {', '.join(kinds)}, found {min(unknown)!r}")
    results = {}
    with tempfile.TemporaryDirectory(prefix="trials_") as folder:
        trials = Trials(Path(folder), args.count, args.seed)
        for kind in args.kinds or kinds:
            outcomes = []
            for good, text in getattr(trials, kind)():
                outcomes.append(good)
                say(f"  {kind} {len(outcomes):2}: {'ok' if good else 'FAILED'}: {text}")
            results[kind] = outcomes
    for kind, outcomes in results.items():
        say(f"{kind:9} {sum(outcomes)} of {len(outcomes)} passed")
    return int(not all(map(all, results.values())))


if __name__ == "__main__":
    sys.exit(main())
