#!/usr/bin/env python
"""Make the synthetic salient object ranking benchmark, in the format of ASSR.

Example:
    python tools/make_synthetic.py --output datasets/synthetic_sor --count 800 100 200 --size 240x320
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from sor_ppa.data import DatasetError, read_assr
from sor_ppa.data.synthetic import (
    DIFFICULTIES,
    RuleWeights,
    SyntheticSpec,
    parse_size,
    rankings,
    record_cues,
    write_dataset,
)
from sor_ppa.evaluation import sa_sor


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--output", default="datasets/synthetic_sor", help="folder (default: %(default)s)")
    parser.add_argument(
        "--count",
        type=int,
        nargs="+",
        default=[800, 100, 200],
        help="images of train, val and test, or one for all",
    )
    parser.add_argument(
        "--size", default="240x320", help="HxW, or HxW:HxW for sizes between two (default: 240x320)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the images (default: 0)")
    parser.add_argument("--workers", type=int, default=None, help="processes (default: one per core)")
    parser.add_argument("--difficulty", choices=list(DIFFICULTIES), default="default")
    parser.add_argument(
        "--weights",
        type=float,
        nargs=4,
        metavar=("SIZE", "CENTER", "CONTRAST", "UNIQUENESS"),
        help="weights of the cues in the ranking rule",
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="SALIENCE",
        help="an annotator who confuses objects whose salience differs by about as much (default: 0)",
    )
    parser.add_argument(
        "--report",
        choices=("train", "val", "test"),
        help="print what rankings without learning reach on that split",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another synthetic dataset")
    return parser


def report(folder: str, split: str, weights: RuleWeights) -> None:
    """Print the SA-SOR of the rule, of chance and of parts of the rule."""
    records, chance = read_assr(folder, split, keep_rankless=True), np.random.default_rng(0)
    values: dict[str, list[float]] = {}
    for record in records:
        masks, ranks = record.masks(), np.array([item.rank for item in record.objects])
        for name, scores in rankings(record_cues(record), weights, chance).items():
            found = np.isfinite(scores)
            score = sa_sor(masks[ranks >= 0], ranks[ranks >= 0], masks[found], scores[found])
            values.setdefault(name, []).extend([] if score.value is None else [score.value])
    sys.stdout.write(f"\nSA-SOR on {split} ({len(records)} images), with the true masks\n")
    for name, found_values in values.items():
        mean = sum(found_values) / len(found_values) if found_values else float("nan")
        sys.stdout.write(f"  {name:20s} {mean:7.4f}   ({len(found_values)} images used)\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status."""
    args = get_parser().parse_args(arguments)
    start = time.perf_counter()
    try:
        if len(args.count) not in (1, 3):
            raise ValueError(f"--count: expected 1 or 3 numbers (train, val, test), found {len(args.count)}")
        numbers = args.count * 3 if len(args.count) == 1 else args.count
        counts = dict(zip(("train", "val", "test"), numbers, strict=True))
        weights = RuleWeights(*args.weights) if args.weights else RuleWeights()
        spec = SyntheticSpec(counts, parse_size(args.size), args.seed, args.difficulty, weights, args.noise)
        written = write_dataset(
            args.output, spec, workers=args.workers, overwrite=args.overwrite, progress=True
        )
    except (DatasetError, ValueError, OSError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    what = f"made in {time.perf_counter() - start:.1f} s" if written else "already exists"
    sizes = ", ".join(f"{split} {count}" for split, count in counts.items())
    sys.stdout.write(f"{args.output}: {sizes} images, {what}\n")
    if args.report:
        report(args.output, args.report, weights)
    return 0


if __name__ == "__main__":
    sys.exit(main())
