#!/usr/bin/env python
"""Time of the ranking metrics of one image on one core, and the speed-up over plain code.

Scenes are 480 x 640 with 5 objects and 8 predictions. "Plain" is straightforward numpy, written here: one
IoU a pair of masks, maps painted mask by mask, one ``np.where`` an object. With ``--reference`` the
published programs found under that folder are executed on the same scenes as well, unchanged but for
``np.float`` (clones of dragonlee258079/Saliency-Ranking and guanhuankang/SeqRank; the first needs pandas).

Example:
    OMP_NUM_THREADS=1 python benchmarks/bench_metrics.py --json metrics_timing.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sor_ppa.evaluation import RankingScorer, f_measure, mae, paint, sa_sor, sor
from sor_ppa.evaluation.segmentations import encode_masks


class Scene(NamedTuple):
    """One image: masks (predictions as float32 too), ranks, scores, RLE, and the painted map as PNG bytes."""

    gt: NDArray[np.bool_]
    ranks: NDArray[np.int64]
    pred: NDArray[np.bool_]
    soft: NDArray[np.float32]
    scores: NDArray[np.float64]
    gt_rles: list[dict[str, Any]]
    pred_rles: list[dict[str, Any]]
    png: NDArray[np.uint8]


def make_scene(generator: np.random.Generator, n_gt: int, n_pred: int, height: int, width: int) -> Scene:
    """Wavy blobs; predictions are shifted objects and false positives."""
    y, x = np.mgrid[:height, :width]

    def blob() -> NDArray[np.bool_]:
        cy, cx = generator.uniform(0.15, 0.85, 2) * (height, width)
        ry, rx = generator.uniform(0.08, 0.25, 2) * (height, width)
        wave = 1 + 0.15 * np.sin(np.arctan2(y - cy, x - cx) * generator.integers(3, 9))
        return ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 < wave

    gt = np.stack([blob() for _ in range(n_gt)])
    shifted = [np.roll(mask, tuple(generator.integers(-9, 10, 2)), (0, 1)) for mask in gt[:n_pred]]
    pred = np.stack(shifted + [blob() for _ in range(n_pred - len(shifted))])
    scores = generator.permutation(n_pred) / n_pred
    png = cv2.imencode(".png", paint(pred, scores, "assr"))[1]
    ranks = generator.permutation(n_gt)
    return Scene(gt, ranks, pred, pred.astype(np.float32), scores, encode_masks(gt), encode_masks(pred), png)


def plain_metrics(scene: Scene) -> tuple[float, float, float]:
    """SA-SOR ``irsr``, SOR ``assr@assr`` and MAE ``assr@assr`` in straightforward numpy."""
    from scipy import stats

    gt, pred = scene.gt.astype(np.float64), scene.pred.astype(np.float64)
    iou = np.zeros((len(gt), len(pred)))
    for i, a in enumerate(gt):
        for j, b in enumerate(pred):
            iou[i, j] = ((a + b) >= 2).sum() / ((a + b) >= 1).sum()
    best = iou.argmax(axis=1)
    owner: dict[int, int] = {}
    for i in np.argsort(-iou.max(axis=1)):
        if iou[i, best[i]] >= 0.5:
            owner.setdefault(int(best[i]), int(i))
    ranked = list(owner) if len(pred) <= len(gt) else list(range(len(pred)))
    order = sorted(scene.scores[ranked])
    found = {i: order.index(scene.scores[j]) + 1 for j, i in owner.items()}
    predicted = np.array([found.get(i, 0) for i in range(len(gt))])
    correlation = 0.0 if predicted.std() == 0 else float(np.corrcoef(scene.ranks, predicted)[0, 1])

    painted = np.zeros(gt.shape[1:])
    for value, j in zip((255, 229, 204, 178, 153), np.argsort(-scene.scores), strict=False):
        painted = np.where(pred[j] == 1, value, painted)
    truth = np.zeros(gt.shape[1:])
    for i in np.argsort(scene.ranks):
        truth = np.where(gt[i] == 1, int(25.5 * (10 - (scene.ranks.max() - scene.ranks[i]))), truth)
    values = []
    for mask in gt:
        inside = np.where(mask == 1, painted, 0)
        nonzero = inside[inside > 0]
        enough = len(nonzero) > int(0.5 * mask.sum())
        values.append(float(stats.mode(nonzero).mode) if enough else 0.0)
    kept = np.array(values) > 0
    spearman = 1.0
    if kept.sum() > 1:
        spearman = float(stats.spearmanr(scene.ranks[kept], np.array(values)[kept]).statistic)
    return correlation, (spearman + 1) / 2, float(np.abs(painted / 255 - truth / 255).mean())


def arguments(scene: Scene) -> tuple[Any, Any, Any, Any]:
    """A scene as the metrics take it."""
    return scene.gt, scene.ranks, scene.pred, scene.scores


def _source(folder: Path, *names: str) -> dict[str, Any] | None:
    for name in names:
        for path in sorted(folder.rglob(Path(name).name)):
            if path.as_posix().endswith(name):
                module = types.ModuleType(path.stem.replace("-", "_"))
                module.__dict__["name"] = None  # SA-SOR.py reads an undefined variable of this name
                code = path.read_text(encoding="utf-8").replace("np.float)", "float)")
                exec(compile(code, str(path), "exec"), module.__dict__)
                return module.__dict__
    return None


def published(folder: Path) -> dict[str, tuple[Callable[[Scene], Any], Callable[[Scene], Any]]]:
    """Published programs under a folder: name -> (theirs, ours), both from a scene."""
    found: dict[str, tuple[Callable[[Scene], Any], Callable[[Scene], Any]]] = {}

    irsr = _source(folder, "metric/SA-SOR.py")
    if irsr is not None:

        def run_irsr(scene: Scene) -> Any:
            result = {
                "gt_masks": scene.gt.astype(np.uint8),
                "segmaps": scene.pred.astype(np.float32),
                "gt_ranks": scene.ranks.tolist(),
                "rank_scores": scene.scores.tolist(),
            }
            return irsr["evalu"]([result], 0.5)

        found["SA-SOR irsr"] = (run_irsr, lambda scene: sa_sor(*arguments(scene)).value)
    levels = _source(folder, "evaluation/mae_fmeasure_2.py")
    if levels is not None:

        def run_levels(scene: Scene) -> Any:
            ranks, scores = [scene.ranks.tolist()], [scene.scores.tolist()]
            masks, maps = [scene.gt.astype(np.uint8)], [scene.pred.astype(np.float32)]
            levels["calu_mae"](ranks, scores, masks, maps, [""])
            return levels["f_measure"](ranks, scores, masks, maps)

        def our_levels(scene: Scene) -> Any:
            mae(*arguments(scene), variant="irsr_levels")
            return f_measure(*arguments(scene), variant="irsr_levels").value

        found["MAE + F irsr_levels"] = (run_levels, our_levels)
    seqrank = _source(folder, "SeqRank/evaluation/metrics.py", "evaluation/metrics.py")
    if seqrank is not None:
        metrics = seqrank["Metrics"](["mae", "sa_sor", "sor"])

        def run_seqrank(scene: Scene) -> Any:
            pred = list(scene.pred[np.argsort(-scene.scores)].astype(np.float32))
            gt = list(scene.gt[np.argsort(-scene.ranks)].astype(np.float32))
            return metrics.process(pred, gt)["sor"]

        scorer = RankingScorer(["sa_sor", "sor", "mae"], ["seqrank"])

        def our_seqrank(scene: Scene) -> Any:
            return scorer.add(*arguments(scene))["sor"]["seqrank"].value

        found["SA-SOR + SOR + MAE seqrank"] = (run_seqrank, our_seqrank)
    return found


def milliseconds(run: Callable[[Scene], Any], scenes: list[Scene], repeats: int) -> float:
    """Median time of a call."""
    times = []
    for repeat in range(repeats + 1):
        for scene in scenes:
            start = time.perf_counter()
            run(scene)
            if repeat:  # the first round warms up
                times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1e3


def main() -> int:
    """Runs the benchmark and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--objects", type=int, default=5)
    parser.add_argument("--predictions", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--reference", type=Path, help="folder with clones of published repositories")
    parser.add_argument("--json", type=Path, help="write the times here")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    generator = np.random.default_rng(0)
    counts = options.objects, options.predictions
    scenes = [make_scene(generator, *counts, *options.size) for _ in range(options.scenes)]
    default, everything = RankingScorer(), RankingScorer("all", "all")
    on_map = RankingScorer(["sor", "mae"], on_map=True)
    size = tuple(options.size)

    def from_png(scene: Scene) -> None:
        gray = np.asarray(cv2.imdecode(scene.png, cv2.IMREAD_GRAYSCALE), np.uint8)
        on_map.add_map(scene.gt, scene.ranks, gray)

    ours: dict[str, Callable[[Scene], Any]] = {
        "SA-SOR, SOR, MAE from bool masks": lambda s: default.add(s.gt, s.ranks, s.pred, s.scores),
        "the same, predictions float32": lambda s: default.add(s.gt, s.ranks, s.soft, s.scores),
        "the same from RLE": lambda s: default.add_rles(s.gt_rles, s.ranks, s.pred_rles, s.scores, size),
        "SOR, MAE from PNG map (decoded here) and masks": from_png,
        "all variants from bool masks": lambda s: everything.add(
            s.gt, s.ranks, s.pred, s.scores, pred_confidences=s.scores
        ),
    }
    for scene in scenes:
        given = [metric(*arguments(scene)).value for metric in (sa_sor, sor, mae)]
        expected = plain_metrics(scene)
        if any(a is None or abs(a - b) > 1e-9 for a, b in zip(given, expected, strict=True)):
            raise SystemExit(f"the plain code disagrees: {given} and {expected}")
    results = {name: milliseconds(run, scenes, options.repeats) for name, run in ours.items()}
    results["plain numpy: SA-SOR, SOR, MAE"] = milliseconds(plain_metrics, scenes, 2)
    lines = [f"{counts[0]} objects, {counts[1]} predictions, {size[0]} x {size[1]}; median ms an image"]
    lines += [f"  {name:50}{value:10.3f}" for name, value in results.items()]
    base = results["plain numpy: SA-SOR, SOR, MAE"]
    ratios = {name: base / value for name, value in list(results.items())[:3]}
    lines += ["times faster than plain numpy"]
    lines += [f"  {name:50}{value:10.1f}" for name, value in ratios.items()]
    if options.reference is not None:
        lines += ["published programs (theirs ms, ours ms, ratio)"]
        with contextlib.redirect_stdout(io.StringIO()):
            programs = published(options.reference)
            for name, (theirs, mine) in programs.items():
                for scene in scenes:
                    if not np.isclose(theirs(scene), mine(scene), atol=1e-6):
                        raise SystemExit(f"{name}: theirs {theirs(scene)}, ours {mine(scene)}")
                slow, fast = milliseconds(theirs, scenes, 2), milliseconds(mine, scenes, options.repeats)
                results[f"published: {name}"], results[f"ours: {name}"] = slow, fast
                ratios[name] = slow / fast
                lines.append(f"  {name:30}{slow:10.2f}{fast:10.3f}{slow / fast:10.1f}")
        if not programs:
            lines.append(f"  none found under {options.reference}")
    sys.stdout.write("\n".join(lines) + "\n")
    if options.json is not None:
        options.json.write_text(json.dumps({"milliseconds": results, "ratios": ratios}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
