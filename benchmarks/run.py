#!/usr/bin/env python
"""Measure time and memory: median, fastest and slowest run, and ratios to the first variant of a task."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import torch
from timing import Failed, Options, Row, plot, report, say, write

#: kind of benchmark, a module beside this file -> what it measures
KINDS = {
    "inference": "prediction, and its cost by size, batch and objects",
    "training": "a training step",
    "loading": "registering, decoding and augmenting",
    "evaluation": "ranking metrics",
    "export": "prediction in every runtime",
    "video": "ranking and tracking the frames of a video",
    "scale": "reading and scoring many records",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; return the exit status."""
    kinds = "\n".join(f"  {name:12}{line}" for name, line in KINDS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n\nkinds (default: all):\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    default = Options()
    parser.add_argument("kind", nargs="*", choices=[[], *KINDS], help="what to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw the cost against size and number")
    parser.add_argument("--published", default="", metavar="DIR", help="folder of the published code")
    parser.add_argument("--config", default=default.config, metavar="FILE", help="default: %(default)s")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="configuration keys")
    parser.add_argument("--runs", type=int, default=default.runs, metavar="N", help="default: %(default)s")
    parser.add_argument("--threads", type=int, default=default.threads, metavar="N")
    parser.add_argument(
        "--largest", type=int, default=default.largest, metavar="N", help="records of scale (%(default)s)"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=(), metavar=("H", "W"), help="of the pictures (default: by kind)"
    )
    parser.add_argument(
        "--keep", default="", metavar="DIR", help="keep the exported models of a configuration; reuse them"
    )
    parser.add_argument("--quick", action="store_true", help="toy sizes, to try the command")
    args = parser.parse_args(arguments)
    options = Options(**{field.name: getattr(args, field.name) for field in fields(Options)})
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": args.threads,
        "torch": torch.__version__,
    }
    say(", ".join(f"{name} {value}" for name, value in machine.items()) + "\n")
    found: dict[str, list[Row]] = {}
    failed = False
    for kind in args.kind or KINDS:
        say(f"\n{kind}: {KINDS[kind]}; seconds\n")
        try:
            found[kind] = import_module(kind).measure(options)
        except Failed as error:
            found[kind], failed = error.rows, True
        say(report(found[kind]))
        if args.plots:
            args.plots.mkdir(parents=True, exist_ok=True)
            if file := plot(args.plots, kind, found[kind]):
                say(f"  {file}\n")
        if args.json:
            write(args.json, found, machine)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
