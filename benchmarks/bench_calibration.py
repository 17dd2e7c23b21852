#!/usr/bin/env python
"""Train the ranking branch with every loss on labels of a noisy annotator, and measure how sure it should be.

The detector is fixed (by default the model of ``make demo``), so the losses rank the same objects. The
annotator of the synthetic benchmark draws every order from a known Plackett-Luce model. Its own probabilities
are the last row; they are about the salient objects, the others about all detections. Finished trainings are
not repeated, so an interrupted run can be continued.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from ablation import CONFIGS, FULL, REPO, RESULT, describe, run, say, train_branch, train_net, without_ranking
from safetensors.torch import load_file, save_file
from tabulate import tabulate

from sor_ppa.config import load_config
from sor_ppa.data import register_from_config
from sor_ppa.data.synthetic import SyntheticSpec, parse_size
from sor_ppa.data.synthetic.rule import SALIENT_FROM
from sor_ppa.evaluation.calibration import Reliability, reliability
from sor_ppa.evaluation.compare import Method, compare_files
from sor_ppa.evaluation.resampling import bootstrap_intervals, sign_flip_p_values

LOSSES = ("cross_entropy", "plackett_luce", "pairwise")
SIZE = "160x208"
OWN = "the annotator's model"


def annotator(spec: SyntheticSpec) -> np.ndarray:
    """Return (N, 2): the probability of every salient object to be named first, and whether it was."""
    events = []
    for index in range(spec.counts["test"]):
        scene = spec.scene("test", index)
        salient = scene.salience > SALIENT_FROM
        strength = np.exp(scene.salience[salient] / spec.noise)
        events.append(np.stack([strength / strength.sum(), np.array(scene.values)[salient] == 1.0], axis=1))
    return np.concatenate(events)


def main() -> None:
    """Make the data, train, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=Path("output/demo/model_final.pth"))
    parser.add_argument(
        "--output", type=Path, default=Path("output/calibration"), help="(default: %(default)s)"
    )
    parser.add_argument(
        "--count", nargs=3, type=int, default=[2400, 10, 1000], help="train, val, test images"
    )
    parser.add_argument("--noise", type=float, default=0.1, help="of the annotator (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=12, help="of the branch (default: %(default)s)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the branch (default: 1 2 3)"
    )
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    root = args.output.resolve()
    data, detector, described = (
        root / "datasets",
        root / "detector.safetensors",
        root / "described.safetensors",
    )
    counts = dict(zip(("train", "val", "test"), args.count, strict=True))
    spec = SyntheticSpec(counts, parse_size(SIZE), seed=2, noise=args.noise)
    make = ["tools/make_synthetic.py", "--output", str(data / "synthetic_sor"), "--seed", "2", "--size", SIZE]
    make += ["--count", *map(str, args.count), "--noise", str(args.noise)]
    run(make, root / "logs" / "data.log", args.threads)
    if not described.exists():
        without_ranking(args.weights, detector)
        describe(detector, data, described)
    methods = []
    for loss, seed in [(loss, seed) for loss in LOSSES for seed in args.seeds]:
        output, options = root / f"{loss}_{seed}", ["MODEL.SOR.LOSS", loss, "SEED", str(seed)]
        output.mkdir(exist_ok=True)
        cfg = load_config(REPO / CONFIGS / f"{FULL}.yaml", [*options, "DATASETS.ROOT", str(data)])
        if not (output / "model.safetensors").exists():
            say(f"    training with {loss}, seed {seed}")
            branch = train_branch(cfg, load_file(described), seed, args.epochs)
            save_file(load_file(detector) | branch, output / "model.safetensors")
        evaluation = ["--eval-only", "MODEL.WEIGHTS", str(output / "model.safetensors"), *options]
        train_net(FULL, output, data, evaluation, args.threads)
        methods.append(Method(output.name, output / RESULT / "sor_instances_results.json"))
    register_from_config(cfg)
    comparison = compare_files(methods, "synthetic_sor_test")
    seeds = len(args.seeds)
    trained = comparison.column(("sa_sor", "irsr")).reshape(len(LOSSES), seeds, -1)
    sa_sor = trained.mean(axis=1)
    events = [comparison.first[n * seeds : (n + 1) * seeds] for n in range(len(LOSSES))]
    rows = [
        [
            f"`{loss}`",
            f"{spread(np.nanmean(values, axis=1))} {interval(values.mean(axis=0))}",
            *calibration(found),
        ]
        for loss, values, found in zip(LOSSES, trained, events, strict=True)
    ]
    own = annotator(spec)
    say(github([*rows, [OWN, "", *calibration([own])]], ["loss", "SA-SOR", "ECE", "Brier score"]))
    for a, b in combinations(range(len(LOSSES)), 2):
        ahead = sa_sor[a] - sa_sor[b]
        p = sign_flip_p_values(ahead[:, None])[0]
        names = f"{LOSSES[a]} - {LOSSES[b]}"
        say(f"{names}: SA-SOR {np.nanmean(ahead):+.3f} {interval(ahead)}, p = {p:.3f}")
    curves = [reliability(*np.concatenate(found).T) for found in (*events, [own])]
    bins = [
        [f"{0.1 * b:.1f} to {0.1 * (b + 1):.1f}", *(point(curve, b) for curve in curves)] for b in range(10)
    ]
    say("\n" + github(bins, ["probability", *(f"`{loss}`" for loss in LOSSES), OWN]))


def interval(values: np.ndarray) -> str:
    """Return the 95 % interval of the mean of values (I,) of images."""
    low, high = bootstrap_intervals(values[:, None])[:, 0]
    return f"[{low:.3f}, {high:.3f}]"


def spread(values: Sequence[float] | np.ndarray) -> str:
    """Return the mean of values of trainings and their standard deviation."""
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")


def calibration(events: Sequence[np.ndarray]) -> list[str]:
    """Return the ECE and the Brier score of the events (N, 2) of each training."""
    errors = [reliability(*found.T).error for found in events]
    brier = [float(np.mean((found[:, 0] - found[:, 1]) ** 2)) for found in events]
    return [spread(errors), spread(brier)]


def github(rows: list[list[str]], head: list[str]) -> str:
    """Return a Markdown table."""
    return tabulate(rows, head, tablefmt="github", disable_numparse=True)


def point(curve: Reliability, b: int) -> str:
    """Return what was predicted and observed in bin ``b``, and the number of objects."""
    if not curve.counts[b]:
        return ""
    return f"{curve.predicted[b]:.2f}: {curve.observed[b]:.2f} ({curve.counts[b]})"


if __name__ == "__main__":
    main()
