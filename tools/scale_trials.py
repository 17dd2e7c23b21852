#!/usr/bin/env python
"""Break runs of ``sor-ppa rank --ray`` on purpose and compare their results with those of ``sor-ppa rank``.

A cluster of two nodes runs on this machine (Linux). In each run something is killed at a random moment:

    worker   a process that reads images, while it reads
    actor    the process of a model
    driver   the command itself, which is then started again
    node     a whole node, which comes back later

The rows of the Parquet files must be those of one process on the same images, each image once.

Example:
    python tools/scale_trials.py --images 200 --runs 4
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from sor_ppa.data.synthetic import SyntheticSpec, write_dataset

KINDS = ("worker", "actor", "driver", "node")
LIMIT = 900  # seconds for one run
# the training-free ranker, so coarse that a photo takes milliseconds
MODEL = """--model contrast --opts MODEL.CONTRAST.SIDE 48 MODEL.CONTRAST.SUPERPIXELS 30
    MODEL.CONTRAST.SEGMENTATIONS 1 MODEL.CONTRAST.WORDS 4 MODEL.CONTRAST.GRABCUT False"""
COMMAND = (sys.executable, "-c", "import sys, sor_ppa_cli; sys.exit(sor_ppa_cli.main())", "rank")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def result_rows(folder: Path) -> tuple[pa.Table, list[str]]:
    """Return the rows of all files of results, and the names of their images, sorted by name and rank."""
    tables = [parquet.read_table(file) for file in sorted(folder.glob("predictions*.parquet"))]
    images = [name for table in tables for name in json.loads(table.schema.metadata[b"images"])]
    rows = pa.concat_tables([table.replace_schema_metadata(None) for table in tables])
    return rows.sort_by([("image", "ascending"), ("rank", "ascending")]), sorted(images)


def unreadable(folder: Path) -> list[dict[str, str]]:
    """Return the images that could not be read, and why, of either kind of run."""
    if (folder / "unreadable.json").is_file():
        rows = json.loads((folder / "unreadable.json").read_text())
        return [{"image": row["file"], "reason": row["reason"]} for row in rows]
    files = sorted((folder / "unreadable").glob("*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def ray_processes() -> dict[int, str]:
    """Return number and name of Ray's worker processes that descend from this process."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(entry.name)
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            names[pid] = (entry / "cmdline").read_text().replace("\0", " ").strip()

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and ours(parents[pid]))

    return {pid: name for pid, name in names.items() if name.startswith("ray::") and ours(pid)}


class Trial:
    """A cluster of two nodes and a command that ranks on it."""

    def __init__(self, folder: Path, photos: Path, shard_size: int) -> None:
        from ray.cluster_utils import Cluster

        node: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 200 * 2**20, "include_dashboard": False}
        self.output, self.shards = folder, len(list(photos.iterdir())) // shard_size
        self.cluster = Cluster(initialize_head=True, head_node_args=node)
        self.node_arguments = node
        self.second = self.cluster.add_node(**node)
        self.words = [str(photos), "--output", str(folder), *shlex.split(MODEL)]
        self.words += ["--ray", self.cluster.address, "--shard-size", str(shard_size)]
        self.log = folder.with_suffix(".log")

    def start(self) -> None:
        """Start the command."""
        with self.log.open("a") as log:
            self.process = subprocess.Popen([*COMMAND, *self.words], stdout=log, stderr=log)

    def wait_for_shards(self, count: int) -> None:
        """Wait until that many shards are written."""
        while self.process.poll() is None and len(list(self.output.glob("predictions*"))) < count:
            time.sleep(0.05)

    def break_one(self, kind: str) -> str:
        """Kill a process or a node; return what was killed, in words."""
        if kind == "driver":
            self.process.kill()
            self.process.wait()
            self.start()
            return "driver"
        if kind == "node":
            self.cluster.remove_node(self.second, allow_graceful=False)
            time.sleep(5)
            self.second = self.cluster.add_node(**self.node_arguments)
            return "node"
        name = {"worker": "ray::FlatMap", "actor": "ray::MapWorker"}[kind]
        victims: list[int] = []
        while not victims and self.process.poll() is None:
            time.sleep(0.05)
            victims = [pid for pid, title in ray_processes().items() if title.startswith(name)]
        if not victims:
            return f"no {kind}, since the command had ended,"
        os.kill(random.choice(victims), signal.SIGKILL)
        return f"a process of {name}"

    def finish(self) -> int:
        """Wait for the command and return its exit status."""
        return self.process.wait(LIMIT)

    def close(self) -> None:
        """End the cluster."""
        if self.process.poll() is None:
            self.process.kill()
        self.cluster.shutdown()


def main(arguments: list[str] | None = None) -> int:
    """Run the trials; return 0 if all results were right."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=10, help="they take the kinds in turn (default: 10)")
    parser.add_argument("--shard-size", type=int, default=50)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="sor_") as name:
        root = Path(name)
        spec = SyntheticSpec({"train": options.images, "val": 1, "test": 1}, (*options.size, *options.size))
        write_dataset(root / "data", spec)
        photos = root / "data/images/train"
        (photos / "broken.jpg").write_text("no picture")
        single = [str(photos), "--output", str(root / "single"), "--format", "parquet", *shlex.split(MODEL)]
        start = time.perf_counter()
        subprocess.run([*COMMAND, *single], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        say(f"one process: {options.images} images in {time.perf_counter() - start:.0f} s")
        expected = (*result_rows(root / "single"), unreadable(root / "single"))
        for number in range(-1, options.runs):
            kind = "nothing" if number < 0 else options.kinds[number % len(options.kinds)]
            start = time.perf_counter()
            trial = Trial(root / f"run{number}", photos, options.shard_size)
            try:
                trial.start()
                killed = "nothing"
                if kind != "nothing":
                    # reading is ahead of ranking, and done when about half of the shards are written
                    moment = random.randrange(trial.shards // 3 if kind == "worker" else trial.shards)
                    trial.wait_for_shards(moment)
                    time.sleep(random.random())
                    killed = f"{trial.break_one(kind)} after {moment} of {trial.shards} shards"
                status = trial.finish()
                found = (*result_rows(trial.output), unreadable(trial.output))
            finally:
                trial.close()
            same = expected[0].equals(found[0]) and expected[1:] == found[1:]
            wrong += not same or status != 1  # 1: an image is unreadable
            verdict = "same" if same else "DIFFERENT"
            say(f"{verdict}, status {status}, {time.perf_counter() - start:.0f} s: killed {killed}")
    runs = options.runs + 1
    say(f"{runs - wrong} of {runs} runs gave the {len(expected[0])} rows of one process")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
