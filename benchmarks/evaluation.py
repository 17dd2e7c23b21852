"""The ranking metrics of images, beside plain code and the published programs.

Scenes are 480 x 640 with 5 objects and 8 predictions. "Plain" is straightforward numpy, written here: one
IoU a pair of masks, maps painted mask by mask, one ``np.where`` an object. ``--published`` is a folder with
clones of dragonlee258079/Saliency-Ranking and guanhuankang/SeqRank; their programs are executed unchanged but
for ``np.float`` (the first needs pandas).
"""

from __future__ import annotations

import contextlib
import io
import types
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from timing import Options, Row, Task, Variant, compare

from sor_ppa.evaluation import RankingScorer, f_measure, mae, paint, sa_sor
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


def measure(options: Options) -> list[Row]:
    """Measure ours, plain code, and the published programs found under their folder."""
    variants = [Variant("plain numpy", _plain, (options,)), Variant("ours", _ours, (options,))]
    if options.published:
        variants.insert(1, Variant("published", _programs, (options, 0)))
        variants.append(Variant("ours, as published", _programs, (options, 1)))
    return compare(variants, options)


def _scenes(options: Options) -> list[Scene]:
    warnings.simplefilter("ignore")
    cv2.setNumThreads(1)
    generator = np.random.default_rng(0)
    size = (48, 64) if options.quick else (480, 640)
    return [make_scene(generator, 5, 8, *size) for _ in range(2 if options.quick else 10)]


def _all_scenes(run: Callable[[Scene], Any], scenes: list[Scene]) -> dict[str, Any]:
    """Run on every scene; return the mean of the result if it is a number."""
    with contextlib.redirect_stdout(io.StringIO()):
        found = [run(scene) for scene in scenes]
    return {"mean": round(float(np.mean(found)), 6)} if isinstance(found[0], float) else {}


def _tasks(runs: dict[str, Callable[[Scene], Any]], scenes: list[Scene]) -> dict[str, Task]:
    return {f"{len(scenes)} images: {name}": partial(_all_scenes, run, scenes) for name, run in runs.items()}


def _plain(options: Options) -> dict[str, Task]:
    return _tasks({"SA-SOR, SOR, MAE from bool masks": lambda s: plain_metrics(s)[0]}, _scenes(options))


def _programs(options: Options, side: int) -> dict[str, Task]:
    found = published(Path(options.published))
    if not found:
        raise FileNotFoundError(f"{options.published}: expected clones of published metrics, found none")
    return _tasks({name: pair[side] for name, pair in found.items()}, _scenes(options))


def _ours(options: Options) -> dict[str, Task]:
    scenes = _scenes(options)
    size = scenes[0].gt.shape[1:]
    default, everything = RankingScorer(), RankingScorer("all", "all")
    on_map = RankingScorer(["sor", "mae"], on_map=True)

    def from_png(scene: Scene) -> None:
        gray = np.asarray(cv2.imdecode(scene.png, cv2.IMREAD_GRAYSCALE), np.uint8)
        on_map.add_map(scene.gt, scene.ranks, gray)

    def from_masks(scene: Scene) -> float | None:
        return default.add(*arguments(scene))["sa_sor"]["irsr"].value

    runs: dict[str, Callable[[Scene], Any]] = {
        "SA-SOR, SOR, MAE from bool masks": from_masks,
        "the same, predictions float32": lambda s: default.add(s.gt, s.ranks, s.soft, s.scores) and None,
        "the same from RLE": lambda s: (
            default.add_rles(s.gt_rles, s.ranks, s.pred_rles, s.scores, size) and None
        ),
        "SOR, MAE from PNG map (decoded here) and masks": from_png,
        "all variants from bool masks": lambda s: (
            everything.add(*arguments(s), pred_confidences=s.scores) and None
        ),
    }
    return _tasks(runs, scenes)
