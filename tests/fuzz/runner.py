"""Runs cases in child processes with limits, so that a crash, a hang or a full memory is one finding."""

from __future__ import annotations

import logging
import mmap
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch

from .corpus import write_corpus
from .targets import TARGETS, Target

SECONDS = 10.0  # a case may take
MEGABYTES = 512  # a case may add to the memory that the process has used
_BATCH = 200  # cases a child
_RUNNING, _DONE, _REFUSED, _FOUND = 1, 2, 3, 4


@dataclass
class Findings:
    """Counts of a run.

    Attributes:
        counts: (target, outcome) -> cases; outcomes are "read", "refused" and "found".
        found: one text for each finding, with what repeats it.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)


def fuzz(cases: int, seed: int = 0, only: str = "") -> Findings:
    """Run cases of every target in turn.

    Args:
        cases: in all, shared equally by the targets.
        seed: another seed makes other cases.
        only: a part of the targets' names.
    """
    torch.set_num_threads(1)  # a fork has no threads but its own
    names = [name for name in TARGETS if only in name]
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        write_corpus(corpus)
        for name in names:
            start, end = 0, -(-cases // len(names))
            while start < end:
                stop = min(end, start + _BATCH)
                start = _batch(name, corpus, seed, range(start, stop), findings)
    return findings


def _batch(name: str, corpus: Path, seed: int, cases: range, findings: Findings) -> int:
    """Run cases in one child; return the first case that it did not reach."""
    states = mmap.mmap(-1, len(cases))
    scratch = corpus.with_name("scratch")
    log = corpus.with_name("log")
    log.write_text("")
    shutil.copytree(corpus, scratch, symlinks=True)
    child = os.fork()
    if child == 0:
        try:
            _run(TARGETS[name], scratch, name, seed, cases, states, log)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    shutil.rmtree(scratch)
    findings.found += log.read_text().split("\0")[:-1]
    for index, case in enumerate(cases):
        state = states[index]
        if state in (_RUNNING, 0):
            how = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"
            findings.counts[name, "found"] += 1
            findings.found.append(f"{name}, seed {seed}, case {case}: the process ended with {how}")
            return case + 1
        findings.counts[name, {_DONE: "read", _REFUSED: "refused", _FOUND: "found"}[state]] += 1
    return cases.stop


def _run(
    target: Target, scratch: Path, name: str, seed: int, cases: range, states: mmap.mmap, log: Path
) -> None:
    """Run cases in this process, which ends at the first one that takes too long."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    logging.disable(logging.CRITICAL)
    for index, case in enumerate(cases):
        states[index] = _RUNNING
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        limit = _virtual_memory() + 4 * MEGABYTES * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        problem = ""
        try:
            refused = target.case(scratch, Random(f"{name} {seed} {case}"))
        except BaseException:
            refused, problem = False, traceback.format_exc(limit=-6)
        signal.setitimer(signal.ITIMER_REAL, 0)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        if grown > MEGABYTES:
            problem += f"{grown} MB of memory\n"
        if problem:
            with log.open("a") as file:
                file.write(f"{name}, seed {seed}, case {case}:\n{problem}\0")
        states[index] = _FOUND if problem else _REFUSED if refused else _DONE


def _virtual_memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
