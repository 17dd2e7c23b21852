#!/usr/bin/env python
"""Train the ranking branch with every loss on labels of a noisy annotator, and measure how sure it should be.

The detector is fixed (by default the model of ``make demo``), so the losses rank the same objects. The
annotator of the synthetic benchmark draws every order from a known Plackett-Luce model. Its own probabilities
are the last row; they are about the salient objects, the others about all detections.
"""

from __future__ import annotations

import argparse
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

LOSSES = ("cross_entropy", "plackett_luce", "pairwise")
SIZE = "160x208"


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
    parser.add_argument("--seed", type=int, default=1, help="of the branch (default: %(default)s)")
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
    for loss in LOSSES:
        output, options = root / loss, ["MODEL.SOR.LOSS", loss, "SEED", str(args.seed)]
        output.mkdir(exist_ok=True)
        cfg = load_config(REPO / CONFIGS / f"{FULL}.yaml", [*options, "DATASETS.ROOT", str(data)])
        if not (output / "model.safetensors").exists():
            say(f"    training with {loss}")
            branch = train_branch(cfg, load_file(described), args.seed, args.epochs)
            save_file(load_file(detector) | branch, output / "model.safetensors")
        evaluation = ["--eval-only", "MODEL.WEIGHTS", str(output / "model.safetensors"), *options]
        train_net(FULL, output, data, evaluation, args.threads)
        methods.append(Method(loss, output / RESULT / "sor_instances_results.json"))
    register_from_config(cfg)
    comparison = compare_files(methods, "synthetic_sor_test")
    sa_sor = [entry for entry in comparison.means() if entry["variant"] == "irsr"]
    scores = [f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]" for entry in sa_sor]
    names = [*(f"`{loss}`" for loss in LOSSES), "the annotator's model"]
    events = [*comparison.first, annotator(spec)]
    curves = [reliability(chance, came_true) for chance, came_true in (found.T for found in events)]
    rows = [
        [name, score, f"{curve.error:.3f}", f"{np.mean((found[:, 0] - found[:, 1]) ** 2):.3f}"]
        for name, score, curve, found in zip(names, [*scores, ""], curves, events, strict=True)
    ]
    say(github(rows, ["loss", "SA-SOR", "ECE", "Brier score"]))
    bins = [
        [f"{0.1 * b:.1f} to {0.1 * (b + 1):.1f}", *(point(curve, b) for curve in curves)] for b in range(10)
    ]
    say("\n" + github(bins, ["probability", *names]))


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
