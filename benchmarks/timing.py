"""Timing in processes of their own that take turns, with peak memory.

Every variant of a benchmark (ours, the published code) is built in a child process. The variants then run
each task in turn, so that other load on the machine affects all of them, and medians are compared.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

__all__ = ["Options", "Row", "Task", "Variant", "compare", "plot", "report", "write"]

#: What is measured: a function that may return facts about its result as plain data. The fact "seconds" takes
#: the place of its time.
Task = Callable[[], "dict[str, Any] | None"]


@dataclass(frozen=True)
class Options:
    """What the command line chooses for all benchmarks."""

    config: str = "configs/sor/ppa.yaml"
    published: str = ""  # folder of the published code
    runs: int = 5  # after one that is not counted
    threads: int = 2
    quick: bool = False  # toy sizes, for tests
    largest: int = 100_000  # records of the benchmark "scale"
    opts: tuple[str, ...] = ()  # KEY VALUE


@dataclass(frozen=True)
class Variant:
    """One way to do the tasks: ``build(*arguments)`` runs in a child and returns tasks by name."""

    name: str
    build: Callable[..., dict[str, Task]]
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Row:
    """The seconds of one task of one variant.

    Attributes:
        task: what was done; "images=4" puts it at 4 on the axis "images" of a plot.
        variant: who did it.
        seconds: of each counted run.
        processor_seconds: of each counted run, of all threads; steadier than ``seconds`` on a busy machine.
        peak_bytes: memory of the process, at most so far.
        facts: about the first result.
    """

    task: str
    variant: str
    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]
    peak_bytes: int
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """The fastest and the slowest run."""
        return min(self.seconds), max(self.seconds)


def _serve(pipe: Connection, variant: Variant, threads: int) -> None:
    """Build the tasks of a variant in this process and run those that the pipe names."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    try:
        tasks = variant.build(*variant.arguments)
        pipe.send(list(tasks))
        for name in iter(pipe.recv, None):
            start, processor = time.perf_counter(), time.process_time()
            facts = tasks[name]()
            seconds = (facts := facts or {}).pop("seconds", time.perf_counter() - start)
            processor = time.process_time() - processor
            pipe.send((seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, facts))
    except Exception:
        pipe.send(traceback.format_exc())


def _answer(pipe: Connection) -> Any:
    """Return what a child sends; end the benchmark with its traceback if it failed."""
    answer = pipe.recv()
    if isinstance(answer, str):
        raise SystemExit(answer)
    return answer


def compare(variants: Iterable[Variant], options: Options) -> list[Row]:
    """Measure all tasks of all variants; a task that several have is done in turn."""
    context = get_context("spawn")
    pipes: dict[str, Connection] = {}
    tasks: dict[str, list[str]] = {}  # -> variants
    children = []
    try:
        for variant in variants:  # one after the other: a variant may read what an earlier one has written
            pipes[variant.name], other = context.Pipe()
            child = context.Process(target=_serve, args=(other, variant, options.threads))
            child.start()
            children.append(child)
            other.close()
            for task in _answer(pipes[variant.name]):
                tasks.setdefault(task, []).append(variant.name)
        rows = []
        for task, names in tasks.items():
            found: dict[str, list[Any]] = {name: [] for name in names}
            for _ in range(options.runs + 1):
                for name in names:
                    pipes[name].send(task)
                    found[name].append(_answer(pipes[name]))
            for name, answers in found.items():
                seconds, processor, peaks, facts = zip(*answers, strict=True)
                rows.append(Row(task, name, seconds[1:], processor[1:], max(peaks), facts[0]))
        return rows
    finally:
        for pipe in pipes.values():
            with suppress(OSError):
                pipe.send(None)
        for child in children:
            child.join(5)
            child.terminate()


def report(rows: Sequence[Row]) -> str:
    """Return a table; each task is compared with its first variant."""
    titles = ("median", "fastest", "slowest", "ratio", "CPU time", "ratio", "peak GiB")
    width = max((len(f"{row.task}, {row.variant}") for row in rows), default=0) + 2
    lines = [" " * width + "".join(f"{title:>10}" for title in titles)]
    first: dict[str, Row] = {}
    for row in rows:
        base, processor = first.setdefault(row.task, row), statistics.median(row.processor_seconds)
        lines.append(
            f"{row.task + ', ' + row.variant:{width}}{row.median:10.4f}{min(row.seconds):10.4f}"
            f"{max(row.seconds):10.4f}{base.median / row.median:10.2f}{processor:10.4f}"
            f"{statistics.median(base.processor_seconds) / max(processor, 1e-9):10.2f}"
            f"{row.peak_bytes / 2**30:10.2f}"
        )
        if "=" not in row.task:
            lines += [f"    {name}: {value}" for name, value in row.facts.items()]
    return "\n".join(lines) + "\n"


def write(path: Path, found: Mapping[str, Sequence[Row]], machine: Mapping[str, Any]) -> None:
    """Write all measurements as JSON."""
    rows = {
        kind: [{**asdict(row), "median": row.median, "spread": row.spread} for row in part]
        for kind, part in found.items()
    }
    path.write_text(json.dumps({"machine": dict(machine), "rows": rows}, indent=1) + "\n", "utf-8")


def plot(folder: Path, kind: str, rows: Sequence[Row]) -> list[Path]:
    """Draw the cost against what the tasks vary ("AXIS=NUMBER"), a picture an axis; return the files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes: dict[str, dict[str, list[tuple[float, Row]]]] = {}
    for row in rows:
        axis, equals, value = row.task.rpartition("=")
        if equals:
            axes.setdefault(axis, {}).setdefault(row.variant, []).append((float(value), row))
    files = []
    for axis, variants in axes.items():
        figure = Figure(figsize=(5, 3.5), layout="constrained")
        FigureCanvasAgg(figure)
        plane = figure.subplots()
        for variant, points in variants.items():
            x, measured = zip(*points, strict=True)
            plane.plot(x, [row.median for row in measured], marker="o", label=variant)
            low, high = zip(*(row.spread for row in measured), strict=True)
            plane.fill_between(x, low, high, alpha=0.2)
        if max(x) >= 1000 * min(x) > 0:
            plane.set(xscale="log", yscale="log")
        plane.set(xlabel=axis, ylabel="seconds", title=kind)
        plane.legend()
        files.append(folder / f"{kind}_{axis.replace(' ', '_').replace(',', '')}.png")
        figure.savefig(files[-1], dpi=120)
    return files


def say(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
