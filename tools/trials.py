#!/usr/bin/env python
"""Break trainings on purpose and count how they take it. ``make trials`` runs this.

Small models train on small pictures on the CPU. Each trial starts ``train_net.py`` as a user does:

    kills     kill -9 at random moments and while a checkpoint is written, then --resume: the weights and the
              optimizer must be those of an uninterrupted training, bit by bit
    parents   kill -9 the process that started the others: none may train on
    workers   kill -9 a process that reads images: the training must end with a reason
    pictures  broken images: reported and replaced up to DATALOADER.MAX_UNREADABLE, else one line
    disks     a full disk: one line, and the checkpoints before it stay whole; skipped if none can be mounted

Example:
    python tools/trials.py kills --count 20
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils._pytree import tree_flatten

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
    words += ["DATASETS.ROOT", str(data), "OUTPUT_DIR", str(output)]
    return ["--config-file", str(REPO / config), *words]


def same_state(first: Path, second: Path) -> bool:
    """Tell whether two checkpoints hold the same weights, optimizer and schedule, bit by bit."""
    states = [torch.load(file, weights_only=False) for file in (first, second)]
    flat = [tree_flatten({key: state[key] for key in ("model", "trainer", "iteration")}) for state in states]
    (values, form), (others, other_form) = flat
    return form == other_form and all(
        torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
        for one, other in zip(values, others, strict=True)
    )


class Training:
    """A training that runs in a session of its own, with SIGINT ignored as under ``nohup ... &``.

    It resumes if it was started before. Its output goes to ``<output>.txt``.

    Args:
        data: of :func:`make_data`.
        output: folder of its checkpoints.
        system: of ``SYSTEMS``.
        workers: processes that read images, of each training process.
        processes: that train.
        options: more words of the command.
        wrapper: words of a command that runs the command.
        launcher: options of Python that run ``train_net.py``, such as ``-m torch.distributed.run``; without
            ``--resume``.
    """

    def __init__(
        self,
        data: Path,
        output: Path,
        system: str = "centermask",
        workers: int = 0,
        processes: int = 1,
        options: str = "",
        wrapper: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        flags = [] if launcher else ["--resume", "--num-gpus", str(processes)]
        words = [*flags, *training_words(data, output, system, workers), *options.split()]
        self.output, self.log = output, Path(f"{output}.txt")
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                [*wrapper, sys.executable, *launcher, "train_net.py", *words],
                cwd=REPO,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
            )
        self.pid = self.process.pid

    def lines(self) -> list[str]:
        """Return what it has printed."""
        return self.log.read_text().splitlines() or [""]

    def wait(self) -> int:
        """Wait for its end; return the exit status."""
        return self.process.wait(LIMIT)

    def finish(self) -> None:
        """Wait for its end; raise if it fails."""
        if self.wait() != 0:
            raise RuntimeError(f"{self.output}: {self.lines()[-1]}")

    def has_ended(self) -> bool:
        """Tell whether its main process has ended."""
        return self.process.poll() is not None

    def has_begun(self) -> bool:
        """Tell whether it takes its first batch, or has ended."""
        return self.has_ended() or "Starting training" in self.log.read_text()

    def members(self) -> dict[int, int]:
        """Return the living processes of its session, each with its parent."""
        found = {}
        for file in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                state, parent, _, session, *_ = file.read_text().rpartition(")")[2].split()
                if int(session) == self.pid and state != "Z":
                    found[int(file.parent.name)] = int(parent)
        return found

    def kill(self) -> None:
        """Kill -9 all its processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def _wait_for(
    condition: Callable[[], object], limit: float = LIMIT, step: float = 0.001
) -> tuple[bool, float]:
    """Wait until a condition holds; return whether it does, and the seconds."""
    begin = time.monotonic()
    while not condition() and time.monotonic() - begin < limit:
        time.sleep(step)
    return bool(condition()), time.monotonic() - begin


class Trials:
    """Trials in a folder, with data that they share.

    Each takes its number and returns whether it passed, None if it cannot run here, and a line about it.

    Args:
        folder: of the data and of the trainings.
        seed: of the moments at which they strike.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.data = folder, folder / "data"
        self.random = random.Random(seed)
        make_data(self.data)
        self.reference = cache(self._reference)

    def _reference(self, system: str, processes: int) -> tuple[Path, float]:
        """Return the end of an uninterrupted training, and the seconds between its checkpoints."""
        output = self.folder / f"whole_{system}_{processes}"
        Training(self.data, output, system, 0, processes).finish()
        first, *_, last = sorted(file.stat().st_mtime for file in output.glob("model_0*.pth"))
        return output / "model_final.pth", (last - first) / 2

    def kills(self, number: int) -> tuple[bool, str]:
        """Kill a training and resume it."""
        system = list(SYSTEMS)[number % len(SYSTEMS)]
        turn = number % len(SYSTEMS) + number // len(SYSTEMS)
        processes, workers = (2 if turn % 4 == 3 else 1), 2 * (number % 2)
        expected, seconds = self.reference(system, processes)
        output, kills = self.folder / f"killed_{number}", []
        for _ in range(self.random.randint(1, 2)):
            kills.append(self._strike(Training(self.data, output, system, workers, processes), seconds))
        Training(self.data, output, system, workers, processes).finish()
        equal = same_state(output / "model_final.pth", expected)
        shutil.rmtree(output)
        return equal, f"{system}, {processes} process(es), {workers} workers, killed {' and '.join(kills)}"

    def _strike(self, training: Training, seconds: float) -> str:
        """Kill a training that writes a checkpoint every so many seconds; return when."""

        def found(pattern: str) -> list[Path]:
            return list(training.output.glob(pattern))

        in_writing = self.random.random() < 0.5
        after = self.random.randint(min(len(found("model_0*.pth")), 2), 3 if in_writing else 2)
        _wait_for(training.has_begun)
        _wait_for(lambda: training.has_ended() or len(found("model_0*.pth")) >= after)
        if in_writing:
            _wait_for(lambda: training.has_ended() or found("*.part"))
        time.sleep(self.random.random() * (0.1 if in_writing else seconds))
        if training.has_ended():
            return "after the end"
        training.kill()
        unfinished = ", ".join(file.name for file in found("*.part"))
        during = f" while writing {unfinished}" if unfinished else ""
        return f"after {len(found('model_0*.pth'))} checkpoints{during}"

    def parents(self, number: int) -> tuple[bool, str]:
        """Kill the process that started the others, when they start or later."""
        workers, delay = (2, 0)[number % 2], self.random.uniform(0, 6)
        output = self.folder / f"parent_{number}"
        training = Training(self.data, output, "centermask", workers, 2, "SOLVER.MAX_ITER 100000")
        if number // 2 % 2 == 0:
            when = "the first batch"
            _wait_for(training.has_begun)
        else:
            when = "the second process"
            _wait_for(lambda: training.has_ended() or len(training.members()) > 1)
        time.sleep(delay)
        before = len(training.members())
        os.kill(training.pid, signal.SIGKILL)
        training.wait()
        ended, seconds = _wait_for(lambda: not training.members(), PATIENCE)
        training.kill()
        text = f"{before} processes, {workers} workers each, killed {delay:.1f} s after {when}"
        return ended, f"{text}: ended in {seconds:.1f} s"

    def workers(self, number: int) -> tuple[bool, str]:
        """Kill a process that reads images, when it starts or later."""
        processes, delay = 1 + number % 2, self.random.uniform(0, 6) if number % 4 > 1 else 0.0
        output = self.folder / f"worker_{number}"
        training = Training(self.data, output, "centermask", 2, processes, "SOLVER.MAX_ITER 100000")

        def readers() -> list[int]:
            parents = training.members()
            trainers = (
                {pid for pid in parents if parents[pid] == training.pid} if processes > 1 else {training.pid}
            )
            return sorted(pid for pid, parent in parents.items() if parent in trainers)

        _wait_for(training.has_begun)  # programs ran before
        _wait_for(lambda: training.has_ended() or readers())
        time.sleep(delay)
        os.kill(self.random.choice(readers()), signal.SIGKILL)
        ended, seconds = _wait_for(training.has_ended, PATIENCE)
        # what multiprocessing says about semaphores of killed processes may come last
        line = next((line for line in training.lines() if line.startswith("error: ")), "no reason")
        good = ended and training.wait() != 0 and "DataLoader worker" in line
        training.kill()
        return good, f"killed {delay:.1f} s after its start: ended in {seconds:.1f} s: {line}"

    def pictures(self, number: int) -> tuple[bool, str]:
        """Train with a broken picture."""
        wide = np.zeros((10, 30000, 3), np.uint8)
        damages: list[tuple[str, Callable[[Path], object]]] = [
            ("empty", lambda file: file.write_bytes(b"")),
            ("cut", lambda file: file.write_bytes(file.read_bytes()[:300])),
            ("text", lambda file: file.write_text("no picture")),
            ("30000x10", lambda file: cv2.imwrite(str(file), wide)),
            ("missing", lambda file: file.unlink()),
        ]
        name, damage = damages[number % len(damages)]
        share, workers = (0.5, 0.01)[number // 2 % 2], 2 * (number % 2)
        broken = Path(shutil.copytree(self.data, self.folder / f"broken_{number}"))
        victims = sorted((broken / "synthetic_sor").rglob("train*.jpg"))
        victim = victims[number % len(victims)]
        damage(victim)
        options = f"DATALOADER.MAX_UNREADABLE {share} SOLVER.CHECKPOINT_PERIOD 100"
        training = Training(broken, self.folder / f"picture_{number}", workers=workers, options=options)
        status, text = training.wait(), training.lines()
        shutil.rmtree(training.output)
        lines = [line for line in text if victim.name in line]
        good = len(lines) == 1 and not any("Traceback" in line for line in text)
        good &= status == 0 if share > 0.1 else status != 0 and lines == text[-1:]
        return good, f"{name}, {workers} workers, limit {share}: {lines[-1] if lines else 'no line'}"

    def disks(self, number: int) -> tuple[bool | None, str]:
        """Train on a small disk in memory, which a namespace of its own mounts; this needs no root."""
        private = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
        probe = shlex.join([*private, "mount -t tmpfs tmpfs /mnt"])
        status, reason = subprocess.getstatusoutput(probe)
        if status != 0:
            return None, f"no disk can be mounted here: {reason}"
        size = self.reference("centermask", 1)[0].stat().st_size
        space = int(size * (number % 4 + self.random.random()))
        output, left = self.folder / f"disk_{number}", self.folder / f"left_{number}"
        output.mkdir()
        mount = f"mount -t tmpfs -o size={space} tmpfs {output}"
        script = f'{mount} && "$@"; status=$?; cp -r {output} {left}; exit $status'
        training = Training(self.data, output, wrapper=[*private, script, "sh"])
        status, line = training.wait(), training.lines()[-1]
        whole = sorted(left.glob("model_*.pth"))
        for file in whole:
            torch.load(file, weights_only=False)
        good = status != 0 and line.startswith("error: ") and "disk full: " in line
        good &= not list(left.glob("*.part")) and "Traceback" not in training.log.read_text()
        shutil.rmtree(left)
        return good, f"{space / 2**20:.0f} MiB: {len(whole)} whole checkpoints, {line}"


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
    words = {True: "ok", False: "FAILED", None: "skipped"}
    results: dict[str, list[bool | None]] = {}
    with tempfile.TemporaryDirectory(prefix="trials_") as folder:
        trials = Trials(Path(folder), args.seed)
        for kind in args.kinds or kinds:
            results[kind] = []
            for number in range(args.count):
                passed, text = getattr(trials, kind)(number)
                results[kind].append(passed)
                say(f"  {kind} {number + 1:2}: {words[passed]}: {text}")
    for kind, outcomes in results.items():
        counts = (f"{outcomes.count(value)} {word}" for value, word in words.items() if value in outcomes)
        say(f"{kind:9} {', '.join(counts)}")
    return int(any(False in outcomes for outcomes in results.values()))


if __name__ == "__main__":
    sys.exit(main())
