"""Timing in processes of their own that take turns, with peak memory.

Every variant of a benchmark (ours, the published code) is built in a child process. The variants then run
each task in turn, so that other load on the machine affects all of them, and medians are compared. A variant
that fails drops out; what the others do is still measured.
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

__all__ = ["Failed", "Options", "Row", "Task", "Variant", "compare", "plot", "report", "write"]

#: What is measured: a function that may return facts about its result as plain data. The fact "seconds" takes
#: the place of its time; of the fact "done", a number of things, the report shows how many that is a second.
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
    size: Sequence[int] = ()  # height and width of the only picture
    keep: str = ""  # folder of exported models
    opts: Sequence[str] = ()  # KEY VALUE


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
        peak_bytes: largest memory of the process during the task, with what earlier ones have left.
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


class Failed(Exception):
    """Variants dropped out; ``rows`` holds what was measured nevertheless."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__()
        self.rows = rows


def _serve(pipe: Connection, variant: Variant, threads: int) -> None:
    """Build the tasks of a variant in this process and run those that the pipe names."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    reset_peak = Path("/proc/self/clear_refs")
    try:
        tasks = variant.build(*variant.arguments)
        pipe.send(list(tasks))
        for name in iter(pipe.recv, None):
            with suppress(OSError):  # elsewhere than on Linux, the peak is that of all tasks so far
                reset_peak.write_text("5")
            start, processor = time.perf_counter(), time.process_time()
            facts = tasks[name]()
            seconds = (facts := facts or {}).pop("seconds", time.perf_counter() - start)
            processor = time.process_time() - processor
            pipe.send((seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, facts))
    except Exception:
        pipe.send(traceback.format_exc())


def compare(variants: Iterable[Variant], options: Options, warm_ups: int = 1) -> list[Row]:
    """Measure all tasks of all variants; a task that several have is done in turn.

    Args:
        variants: what is compared.
        options: of the command line.
        warm_ups: runs of every task that are not counted.

    Raises:
        Failed: a variant raised an error, which is printed at once, or its process ended.
    """
    context = get_context("spawn")
    pipes: dict[str, Connection] = {}
    failed: set[str] = set()
    tasks: dict[str, list[str]] = {}  # -> variants
    children = []

    def answer(name: str) -> Any:
        """Return what a variant sends, or None if it failed."""
        try:
            sent = pipes[name].recv()
        except EOFError:
            sent = "its process ended"
        if not isinstance(sent, str):
            return sent
        failed.add(name)
        sys.stderr.write(f"{name} failed: {sent}\n")
        return None

    try:
        for variant in variants:  # one after the other: a variant may read what an earlier one has written
            pipes[variant.name], other = context.Pipe()
            child = context.Process(target=_serve, args=(other, variant, options.threads))
            child.start()
            children.append(child)
            other.close()
            for task in answer(variant.name) or ():
                tasks.setdefault(task, []).append(variant.name)
        rows = []
        for task, names in tasks.items():
            found: dict[str, list[Any]] = {name: [] for name in names}
            for _ in range(warm_ups + options.runs):
                for name in names:
                    if name not in failed:
                        pipes[name].send(task)
                        found[name].append(answer(name))
            for name in names:
                if name not in failed:
                    seconds, processor, peaks, facts = zip(*found[name], strict=True)
                    counted = slice(warm_ups, None)
                    rows.append(Row(task, name, seconds[counted], processor[counted], max(peaks), facts[0]))
        if failed:
            raise Failed(rows)
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
        if "done" in row.facts:
            lines.append(f"    {row.facts['done'] / row.median:.1f} a second")
        elif "=" not in row.task:
            lines += [f"    {name}: {value}" for name, value in row.facts.items()]
    return "\n".join(lines) + "\n"


def write(path: Path, found: Mapping[str, Sequence[Row]], machine: Mapping[str, Any]) -> None:
    """Write all measurements as JSON."""
    rows = {
        kind: [{**asdict(row), "median": row.median, "spread": row.spread} for row in part]
        for kind, part in found.items()
    }
    path.write_text(json.dumps({"machine": dict(machine), "rows": rows}, indent=1) + "\n", "utf-8")


def plot(folder: Path, kind: str, rows: Sequence[Row]) -> Path | None:
    """Draw time and memory of the tasks "[TITLE, ]AXIS=NUMBER", a column for each title and axis.

    Returns:
        The file, or None if there is no such task.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns: dict[str, dict[str, list[tuple[float, Row]]]] = {}
    for row in rows:
        axis, equals, value = row.task.rpartition("=")
        if equals:
            columns.setdefault(axis, {}).setdefault(row.variant, []).append((float(value), row))
    if not columns:
        return None
    figure = Figure(figsize=(3.4 * len(columns), 5), layout="constrained")
    FigureCanvasAgg(figure)
    planes = figure.subplots(2, len(columns), sharex="col", squeeze=False)
    for (axis, variants), (top, bottom) in zip(columns.items(), planes.T, strict=True):
        for variant, points in variants.items():
            x, measured = zip(*points, strict=True)
            (line,) = top.plot(x, [row.median for row in measured], marker="o", label=variant)
            low, high = zip(*(row.spread for row in measured), strict=True)
            top.fill_between(x, low, high, alpha=0.2, color=line.get_color())
            bottom.plot(x, [row.peak_bytes / 2**30 for row in measured], marker="o")
        title, _, name = axis.rpartition(", ")
        top.set(title=title, ylabel="seconds")
        bottom.set(xlabel=name, ylabel="peak memory (GiB)")
        large = max(x) >= 10_000
        for plane in (top, bottom):
            plane.grid(alpha=0.3)
            if plane is top and large:
                plane.set(xscale="log", yscale="log")
            else:
                plane.set_ylim(0, 1.1 * plane.dataLim.ymax)
        if len(variants) > 1:
            top.legend()
    file = folder / f"{kind}.png"
    figure.savefig(file, dpi=90)
    return file


def say(text: str) -> None:
    """Print a text at once."""
    sys.stdout.write(text)
    sys.stdout.flush()
