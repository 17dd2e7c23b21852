#!/usr/bin/env python
"""Train every ranker of this repository with one budget on the synthetic benchmark; write a table.

The budget is processor time of a training on one thread, data loading included, so it is the same on a busy
machine. Trainings use bfloat16 where the processor has instructions for it and --float32 is not given, else
float32. The learning rate rises during the first 5 % of the budget and then falls along half a cosine. The
score threshold and the IoU of non-maximum suppression are those with the best SA-SOR on the validation
split. All figures are of the test split. Finished runs are not repeated, so an interrupted benchmark can be
continued.

Example:
    python benchmarks/leaderboard.py --budget 360 --seeds 1 2 3 --workers 2
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from ablation import REPO, run, say
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from scipy.stats import t as student
from torch import nn

from sor_ppa.atomic import atomic_write
from sor_ppa.building import build_checked_model
from sor_ppa.config import load_config
from sor_ppa.config.thresholds import score_threshold_keys
from sor_ppa.cpu_inference import keep_free_memory, tune_for_inference
from sor_ppa.data import register_from_config
from sor_ppa.data.train_loader import seed_all
from sor_ppa.engine import Trainer
from sor_ppa.evaluation import SOREvaluator
from sor_ppa.evaluation.ground_truth import truth_from_dict
from sor_ppa.evaluation.report import write_nullable_json
from sor_ppa.layers.precision import fast_bfloat16
from sor_ppa.profiling import count_flops
from sor_ppa.training import TrainingStep, amp_dtype

ORACLE = "oracle"
SIZE = (160, 208)
SPLIT = "synthetic_sor_{}"
THRESHOLDS = (0.02, 0.1)
OVERLAPS = (0.5, 0.7, 0.9)
WARMUP = 0.05
TITLES = (
    "| | `--systems` | SA-SOR | shuffled | SOR (images) | MAE | mask AP | CPU seconds | images seen "
    "| parameters | FLOPs | threshold/IoU |"
)
BATCH = 4  # images, of every system


@dataclass(frozen=True)
class System:
    """A line of the table: its title, its configuration, the key of its suppression and changes to it."""

    title: str
    config: str
    suppression: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """What a training used, and the scores of its model."""

    scores: dict[str, float]
    threshold: float | None = None
    overlap: float | None = None
    seconds: float = 0.0
    images: int = 0
    parameters: int = 0
    flops: int = 0


_R_M2F = ("configs/mask2former/ranking_mask2former_demo.yaml", "MODEL.MASK_FORMER.TEST.NMS_THRESH")
SYSTEMS = {
    "mask2former": System("RankingMask2Former", *_R_M2F),
    "centermask": System("CenterMask + PPA", "configs/sor/demo.yaml", "MODEL.FCOS.NMS_TH"),
    "mask_rcnn": System(
        "Mask R-CNN + PPA", "configs/leaderboard/mask_rcnn.yaml", "MODEL.ROI_HEADS.NMS_THRESH_TEST"
    ),
    "salience_detr": System(
        "Salience-DETR + PPA", "configs/salience_detr/demo.yaml", "MODEL.SALIENCE_DETR.TEST_NMS"
    ),
    "conditional_detr": System(
        "Conditional DETR + PPA", "configs/leaderboard/conditional_detr.yaml", "MODEL.SIAMESE_DETR.NMS_THRESH"
    ),
    "contrast": System("contrast, training-free", "configs/contrast/contrast.yaml"),
    ORACLE: System("oracle: the true masks in the true order", ""),
}
ABLATIONS = {
    "no_position": System("no position", *_R_M2F, ("MODEL.SOR.NAME", "SelfAttentionPredictor")),
    "no_attention": System("no attention", *_R_M2F, ("MODEL.SOR.NAME", "SinglePredictorWithPos")),
    "neither": System("neither position nor attention", *_R_M2F, ("MODEL.SOR.NAME", "SinglePredictor")),
    "cross_entropy": System("`cross_entropy`", *_R_M2F, ("MODEL.SOR.LOSS", "cross_entropy")),
    "pairwise": System("`pairwise`", *_R_M2F, ("MODEL.SOR.LOSS", "pairwise")),
}
UNTRAINED = ("contrast", ORACLE)
ALL = SYSTEMS | ABLATIONS


def rate_factor(share: float) -> float:
    """Return the learning rate as a share of the configured one, after a share of the budget."""
    return min(share / WARMUP, 1.0) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def train_within(cfg: CfgNode, model: nn.Module, budget: float) -> tuple[int, float]:
    """Train a model in place until ``budget`` seconds of processor time are used.

    Returns:
        Images seen, and the seconds really used.
    """
    optimizer = Trainer.build_optimizer(cfg, model.train())
    rates = [group["lr"] for group in optimizer.param_groups]
    loader = Trainer.build_train_loader(cfg)
    loader.seed = cfg.SEED
    dtype = amp_dtype(cfg, "cpu") if cfg.SOLVER.AMP.ENABLED else torch.float32
    step = TrainingStep(model, loader, optimizer, seed=cfg.SEED, dtype=dtype)
    start, used = time.process_time(), 0.0
    with EventStorage() as storage:
        while used < budget:
            factor = rate_factor(used / budget)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            step.iter = storage.iter
            step.run_step()
            storage.step()
            used = time.process_time() - start
        return storage.iter * cfg.SOLVER.IMS_PER_BATCH, used


def evaluate(
    cfg: CfgNode, state: dict[str, Any], split: str, threshold: float | None, options: Sequence[Any] = ()
) -> Any:
    """Return the results of weights on a split; on "val" SA-SOR only.

    Args:
        cfg: of the model.
        state: of the trained model.
        split: "val" or "test".
        threshold: confidence from which detections are objects; None: as configured.
        options: keys and values that replace those of ``cfg``.
    """
    name = SPLIT.format(split)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TEST = (name,)
    cfg.merge_from_list(list(options))
    if threshold is not None:
        for node, key in score_threshold_keys(cfg):
            node[key] = threshold
    model = build_checked_model(cfg)
    model.load_state_dict(state)
    evaluator = SOREvaluator(name, metrics=["sa_sor"], iou_types=()) if split == "val" else None
    return Trainer.test(cfg, tune_for_inference(model), [evaluator] if evaluator else None)


def flat(results: Any) -> dict[str, float]:
    """Return the scores of the table among all results of an evaluation."""
    names = ("SA-SOR", "SA-SOR-shuffled", "SOR", "SOR-images", "MAE")
    return {name: results["sor"][name] for name in names} | {"mask AP": results["segm"]["AP"]}


def run_system(name: str, seed: int, budget: float, data: Path, output: Path, half: bool) -> Run:
    """Train, with ``half`` in bfloat16, and score a system."""
    system = ALL[name]
    places = ["DATASETS.ROOT", str(data), "OUTPUT_DIR", str(output)]
    options = ["SEED", seed, "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", BATCH]
    options += ["SOLVER.AMP.ENABLED", half, *system.options]
    cfg = load_config(REPO / system.config, [*places, *map(str, options)])
    register_from_config(cfg)
    seed_all(seed, 0, 0)
    model = build_checked_model(cfg)
    state = model.state_dict()
    if name in UNTRAINED:
        return Run(flat(evaluate(cfg, state, "test", None)))
    trained = output / "model_final.pth"
    if trained.exists():  # an earlier call was ended while it scored
        saved = torch.load(trained, weights_only=True)
        model.load_state_dict(saved["model"])
        images, seconds = saved["images"], saved["seconds"]
    else:
        images, seconds = train_within(cfg, model, budget)
        output.mkdir(parents=True, exist_ok=True)
        with atomic_write(trained) as temporary:
            torch.save({"model": state, "images": images, "seconds": seconds}, temporary)
    found = {
        (threshold, overlap): evaluate(cfg, state, "val", threshold, (system.suppression, overlap))
        for threshold, overlap in product(THRESHOLDS, OVERLAPS)
    }
    best, overlap = max(found, key=lambda choice: found[choice]["sor"]["SA-SOR"])
    parameters = sum(p.numel() for p in model.parameters())
    picture = torch.randint(256, (3, *SIZE), generator=torch.Generator().manual_seed(0)).float()
    flops = count_flops(model.eval().requires_grad_(False), [{"image": picture}]).total()
    scores = flat(evaluate(cfg, state, "test", best, (system.suppression, overlap)))
    return Run(scores, best, overlap, seconds, images, parameters, flops)


def run_oracle(data: Path, output: Path) -> Run:
    """Score the truth of the test split."""
    cfg = load_config(REPO / SYSTEMS["centermask"].config, ["DATASETS.ROOT", str(data)])
    register_from_config(cfg)
    name = SPLIT.format("test")
    evaluator = SOREvaluator(name, output_dir=output)
    for record in DatasetCatalog.get(name):
        truth = truth_from_dict(record)
        masks = torch.from_numpy(truth.ranked_masks()).bool()
        corners = torch.from_numpy(truth.boxes[truth.ranks >= 0])
        corners[:, 2:] += corners[:, :2]
        found = Instances(truth.size, pred_masks=masks, pred_boxes=Boxes(corners))
        found.scores, found.pred_ranks = torch.ones(len(masks)), torch.from_numpy(truth.dense_ranks)
        evaluator.process([record], [{"instances": found}])
    return Run(flat(evaluator.evaluate()))


def interval(values: Sequence[float]) -> float:
    """Return half the 95 % confidence interval of a mean, by Student's distribution; NaN for one value."""
    if len(values) < 2:
        return math.nan
    return float(student.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def row(name: str, runs: Sequence[Run]) -> str:
    """Return a line of the Markdown table."""
    first = runs[0]

    def average(key: str) -> float:
        return mean(r.scores[key] for r in runs)

    spread = interval([r.scores["SA-SOR"] for r in runs])
    cells = [ALL[name].title, f"`{name}`"]
    cells.append(f"{average('SA-SOR'):.3f}" + ("" if math.isnan(spread) else f" ± {spread:.3f}"))
    cells.append(f"{average('SA-SOR-shuffled'):.3f}")
    cells.append(f"{average('SOR'):.3f} ({average('SOR-images'):.0f})")
    cells += [f"{average('MAE'):.3f}", f"{average('mask AP'):.1f}"]
    if first.images:
        cells += [f"{mean(r.seconds for r in runs):.0f}", f"{mean(r.images for r in runs):,.0f}"]
        cells += [f"{first.parameters / 1e6:.1f} M", f"{first.flops / 1e9:.2f} G"]
        cells += [" ".join(f"{r.threshold}/{r.overlap}" for r in runs)]
    else:
        cells += [""] * 5
    return f"| {' | '.join(cells)} |"


def table(results: dict[str, list[Run]]) -> str:
    """Return the Markdown table of the runs of each system, the best SA-SOR first."""
    order = sorted(results, key=lambda name: -mean(r.scores["SA-SOR"] for r in results[name]))
    rule = "|---" * (TITLES.count("|") - 1) + "|"
    return "\n".join([TITLES, rule, *(row(name, results[name]) for name in order)])


def read_run(path: Path) -> Run:
    """Return a finished run; scores that are not defined are NaN."""
    content = json.loads(path.read_text())
    scores = {name: math.nan if value is None else value for name, value in content.pop("scores").items()}
    return Run(scores, **content)


def folder(root: Path, name: str, seed: int) -> Path:
    """Return the folder of a run."""
    return root / f"{name}_{seed}"


def main() -> None:
    """Make the data, train, score, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/leaderboard"), help="(default: %(default)s)"
    )
    parser.add_argument("--systems", nargs="+", choices=list(ALL), default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--budget", type=float, default=360, help="seconds of processor time of a training (default: 360)"
    )
    parser.add_argument("--count", nargs=3, default=["4000", "200", "500"], help="train, val and test images")
    parser.add_argument("--float32", action="store_true", help="train in float32 in any case")
    parser.add_argument("--workers", type=int, default=2, help="parallel trainings (default: %(default)s)")
    parser.add_argument("--one", nargs=2, metavar=("SYSTEM", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    root = args.output.resolve()
    data = root / "datasets"
    if args.one:
        name, seed = args.one[0], int(args.one[1])
        output = folder(root, name, seed)
        logging.basicConfig(level=logging.INFO)
        torch.set_num_threads(1)
        keep_free_memory()
        if name == ORACLE:
            result = run_oracle(data, output)
        else:
            result = run_system(name, seed, args.budget, data, output, not args.float32)
        write_nullable_json(output / "run.json", asdict(result))
        return

    if not args.float32 and not fast_bfloat16(torch.device("cpu")):
        say("this processor has no instructions for bfloat16: trainings in float32")
        args.float32 = True
    root.mkdir(parents=True, exist_ok=True)
    settings = {"budget": args.budget, "count": args.count, "float32": args.float32}
    note = root / "settings.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        parser.error(
            f"{note}: expected {json.dumps(settings)}, found {note.read_text()}; choose another --output"
        )
    note.write_text(json.dumps(settings))
    make = ["tools/make_synthetic.py", "--output", str(data / "synthetic_sor"), "--count", *args.count]
    run([*make, "--size", f"{SIZE[0]}x{SIZE[1]}"], root / "logs" / "data.log", args.workers)

    def one(job: tuple[int, str]) -> tuple[str, Run]:
        seed, name = job
        output = folder(root, name, seed)
        if not (output / "run.json").exists():
            command = ["benchmarks/leaderboard.py", "--output", str(root), "--budget", str(args.budget)]
            command += ["--float32"] * args.float32 + ["--one", name, str(seed)]
            run(command, root / "logs" / f"{output.name}.log", 1)
        return name, read_run(output / "run.json")

    jobs = [
        (seed, name)
        for seed, name in product(args.seeds, args.systems)
        if name not in UNTRAINED or seed == args.seeds[0]
    ]
    results: dict[str, list[Run]] = {}
    with ThreadPoolExecutor(args.workers) as pool:
        for name, result in pool.map(one, jobs):
            results.setdefault(name, []).append(result)
    lines = table(results)
    (root / "leaderboard.md").write_text(f"{lines}\n", encoding="utf-8")
    say(f"\n{lines}")


if __name__ == "__main__":
    main()
