#!/usr/bin/env python
"""Run the ablation of the PPA paper on the synthetic benchmark: the contribution of each part of the ranker.

Trains one detector without ranking. Every variant of the ranking branch (``configs/sor/ablation``) is then
trained with every seed on the detections of this fixed detector in the training images. All variants rank the
same objects, so differences come from the branch only. The whole model is evaluated on the held-out images.
Finished steps are not repeated, so an interrupted run can be continued.

``--joint`` trains detector and branch together instead, with ``train_net.py``.

Example:
    python benchmarks/ablation.py --seeds 1 2 3 --workers 2
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, MapDataset, get_detection_dataset_dicts
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from sor_ppa.centermask.roi_heads import select_positives
from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.config import load_config
from sor_ppa.data import register_from_config
from sor_ppa.data.mapper import RankingDatasetMapper
from sor_ppa.ranking import RankingOptions, build_sor_head, ranking_losses

REPO = Path(__file__).resolve().parents[1]
CONFIGS = "configs/sor/ablation"
VARIANTS = {
    "baseline": "neither",
    "only_pos": "position maps, no interaction",
    "only_attention": "interaction, no position",
    "xywh": "interaction, box coordinates",
    "pos_quant": "interaction, quantized position",
    "ppa": "interaction, position maps: PPA",
}
FULL = "ppa"
RESULT = "inference/synthetic_sor_test"


def say(text: str) -> None:
    """Print a line immediately."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def run(command: list[str], log: Path, threads: int) -> None:
    """Run a command of the project and write its output to ``log``.

    Raises:
        SystemExit: the command fails; the message holds its last lines.
    """
    say(f"    python {' '.join(command)}")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        status = subprocess.call(
            [sys.executable, *command], cwd=REPO, stdout=file, stderr=subprocess.STDOUT, env=env
        )
    if status:
        tail = "".join(log.read_text().splitlines(keepends=True)[-10:])
        raise SystemExit(f"{tail}error: exit status {status}; the log is {log}")


def train_net(config: str, output: Path, data: Path, options: list[str], threads: int) -> None:
    """Run ``train_net.py`` with results in ``output``, unless its scores exist."""
    if (output / RESULT / "sor_metrics.json").exists():
        return
    command = ["train_net.py", "--config-file", f"{CONFIGS}/{config}.yaml", *options]
    command += ["DATASETS.ROOT", str(data), "OUTPUT_DIR", str(output)]
    run(command, output / "train.log", threads)


def without_ranking(source: Path, target: Path) -> None:
    """Save the weights of a detector without its ranking head, which every variant initializes randomly."""
    state = torch.load(source, map_location="cpu", weights_only=True)["model"]
    kept = {k: torch.as_tensor(v).contiguous() for k, v in state.items() if ".sor_head." not in k}
    assert len(kept) < len(state), f"{source}: found no ranking head to leave out"
    save_file(kept, target)


@torch.no_grad()
def describe(weights: Path, data: Path, target: Path) -> None:
    """Compute the inputs of the ranking branch for the training images: the detections that match objects.

    Writes tensors of N objects in the order of their images: ``features`` (N, C, R, R) and ``masks``
    (N, 1, 2R, 2R) float16, ``maps`` (N, 2, R, R) and ``boxes`` (N, 4) float32, ``ranks`` (N,) int64; and per
    image ``counts`` and ``sizes`` (2). Images are mirrored at random.
    """
    cfg = load_config(REPO / CONFIGS / f"{FULL}.yaml", ["DATASETS.ROOT", str(data)])
    register_from_config(cfg)
    model: Any = build_model(cfg).eval()
    SORCheckpointer(model).load(str(weights))
    dicts = get_detection_dataset_dicts("synthetic_sor_train")
    dataset = MapDataset(DatasetFromList(dicts), RankingDatasetMapper(cfg, is_train=True))
    heads = model.roi_heads
    parts: dict[str, list[Tensor]] = {}
    torch.manual_seed(0)
    for batch in DataLoader(dataset, batch_size=16, collate_fn=list, num_workers=1):
        features, found = model.detect(batch)
        targets = [item["instances"] for item in batch]
        positives = [
            select_positives(f.pred_boxes.tensor, t.gt_boxes.tensor, heads.matcher, 100, append_gt=False)
            for f, t in zip(found, targets, strict=True)
        ]
        boxes, sizes = [p.boxes for p in positives], [t.image_size for t in targets]
        pooled, maps = heads._pool(features, boxes, sizes)
        seen = {
            "features": pooled.half(),
            "masks": heads.mask_head.layers(pooled)[:, :1].sigmoid().half(),
            "maps": maps,
            "boxes": torch.cat(boxes),
            "ranks": torch.cat([t.gt_ranks[p.index] for t, p in zip(targets, positives, strict=True)]),
            "counts": torch.tensor([len(b) for b in boxes]),
            "sizes": torch.tensor(sizes),
        }
        for name, value in seen.items():
            parts.setdefault(name, []).append(value)
    save_file({name: torch.cat(values).contiguous() for name, values in parts.items()}, target)


def train_branch(cfg: CfgNode, seen: dict[str, Tensor], seed: int, epochs: int) -> dict[str, Tensor]:
    """Train a new ranking head on described objects.

    Args:
        cfg: of the variant.
        seen: of :func:`describe`.
        seed: of the initial weights and the order of the images.
        epochs: passes over the images, 32 per step; the learning rate follows half a cosine from 5e-4.

    Returns:
        The parameters of the head.
    """
    torch.manual_seed(seed)
    channels, side = seen["features"].shape[1:3]
    head = build_sor_head(cfg, ShapeSpec(channels=channels, width=side, height=side))
    options = RankingOptions.from_config(cfg, published_threshold=0.1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=5e-4, weight_decay=0.05)
    counts = seen["counts"].tolist()
    images = [slice(end - n, end) for end, n in zip(seen["counts"].cumsum(0).tolist(), counts, strict=True)]
    usable = [i for i, n in enumerate(counts) if n > 0]
    steps = epochs * len(usable) // 32
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 5e-4, total_steps=steps + 1, pct_start=0.05, cycle_momentum=False
    )
    step = 0
    while step < steps:
        for chosen in torch.tensor(usable)[torch.randperm(len(usable))].split(32):
            rows = [images[i] for i in chosen.tolist()]
            features, masks, maps, ranks = (
                torch.cat([seen[name][r] for r in rows]) for name in ("features", "masks", "maps", "ranks")
            )
            losses = ranking_losses(
                head,
                features.float(),
                masks.float(),
                maps if head.needs_maps else None,
                [seen["boxes"][r] for r in rows],
                [(int(h), int(w)) for h, w in seen["sizes"][chosen]],
                ranks,
                options,
            )
            optimizer.zero_grad()
            losses["sor_loss"].backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if step % 100 == 0:
                say(f"    step {step} of {steps}, loss {losses['sor_loss'].item():.3f}")
            if step == steps:
                break
    return {f"roi_heads.sor_head.{name}": value.detach() for name, value in head.state_dict().items()}


def one_branch(name: str, seed: int, epochs: int, root: Path) -> None:
    """Train the branch of a variant and write the whole model; runs in a separate process."""
    cfg = load_config(REPO / CONFIGS / f"{name}.yaml", ["SEED", str(seed)])
    branch = train_branch(cfg, load_file(root / "described.safetensors"), seed, epochs)
    output = root / f"{name}_{seed}"
    save_file(load_file(root / "detector.safetensors") | branch, output / "model.safetensors")


def scores(output: Path) -> dict[str, float]:
    """Return the held-out scores of a run."""
    results = json.loads((output / RESULT / "sor_metrics.json").read_text())["results"]
    return {
        "SA-SOR": results["sor"]["SA-SOR"],
        "SOR": results["sor"]["SOR"],
        "mask AP50": results["segm"]["AP50"],
    }


def per_image(output: Path, column: str) -> dict[str, float]:
    """Return a score of every image that has one."""
    with (output / RESULT / "sor_per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {r["file_name"]: float(r[column]) for r in rows if r[f"{column} status"] == "counted"}


def compare(full: list[Path], other: list[Path], column: str) -> tuple[float, float]:
    """Return the mean advantage of ``full`` over ``other`` and its standard error, over images.

    The score of an image is its mean over the seeds.
    """
    tables = [[per_image(output, column) for output in outputs] for outputs in (full, other)]
    images = set.intersection(*(set(table) for group in tables for table in group))
    differences = [mean(t[i] for t in tables[0]) - mean(t[i] for t in tables[1]) for i in images]
    return mean(differences), stdev(differences) / math.sqrt(len(differences))


def folder(root: Path, name: str, seed: int, joint: bool) -> Path:
    """Return the folder of a run's results."""
    return root / ("joint" if joint else "") / f"{name}_{seed}"


def table(root: Path, variants: list[str], seeds: list[int], joint: bool) -> str:
    """Return Markdown: mean and standard deviation over the seeds, and the advantage of the full method."""
    titles = ["SA-SOR", "SOR", "mask AP50"]
    lines = ["| ranking branch | config | " + " | ".join(titles) + " | PPA ahead in SA-SOR | in SOR |"]
    lines.append("|---|---|" + "---|" * (len(titles) + 2))
    for name in variants:
        outputs = [folder(root, name, seed, joint) for seed in seeds]
        found = [scores(o) for o in outputs]
        cells = []
        for title in titles:
            values = [f[title] for f in found]
            digits = 1 if "AP" in title else 3
            spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.{digits}f}{spread}")
        for column in ("sa_sor:irsr", "sor:assr@assr"):
            if name == FULL or FULL not in variants:
                cells.append("")
                continue
            full = [folder(root, FULL, seed, joint) for seed in seeds]
            gain, error = compare(full, outputs, column)
            cells.append(f"{gain:+.3f} ± {error:.3f}")
        lines.append(f"| {VARIANTS[name]} | `{name}.yaml` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Create the data, train, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("output/ablation"), help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument(
        "--count", nargs=3, default=["10000", "50", "2000"], help="train, val and test images"
    )
    parser.add_argument("--epochs", type=int, default=12, help="epochs of the branch (default: %(default)s)")
    parser.add_argument("--joint", action="store_true", help="train detector and branch together instead")
    parser.add_argument("--workers", type=int, default=2, help="parallel trainings (default: %(default)s)")
    parser.add_argument("--branch", nargs=2, metavar=("VARIANT", "SEED"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    root, start = args.output.resolve(), time.monotonic()
    if args.branch:
        one_branch(args.branch[0], int(args.branch[1]), args.epochs, root)
        return
    data, weights, described = (
        root / "datasets",
        root / "detector.safetensors",
        root / "described.safetensors",
    )
    cores = os.cpu_count() or 1
    threads = max(cores // args.workers, 1)

    settings = {"count": args.count, "epochs": args.epochs}
    note = root / "settings.json"
    if note.exists() and json.loads(note.read_text()) != settings:
        expected, found = json.dumps(settings), note.read_text()
        sys.exit(f"error: {note}: expected {expected}, found {found}; choose another --output")
    root.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(settings))
    make = ["tools/make_synthetic.py", "--output", str(data / "synthetic_sor"), "--count", *args.count]
    run([*make, "--size", "160x208"], root / "logs" / "data.log", 1)
    train_net("detector", root / "detector", data, [], cores)
    if not weights.exists():
        without_ranking(root / "detector" / "model_final.pth", weights)
    if not args.joint and not described.exists():
        say("    computing the inputs of the ranking branch")
        describe(weights, data, described)

    def one(job: tuple[int, str]) -> None:
        seed, name = job
        output = folder(root, name, seed, args.joint)
        if args.joint:
            train_net(name, output, data, ["MODEL.WEIGHTS", str(weights), "SEED", str(seed)], threads)
            return
        if not (output / "model.safetensors").exists():
            command = ["benchmarks/ablation.py", "--output", str(root), "--epochs", str(args.epochs)]
            run([*command, "--branch", name, str(seed)], output / "branch.log", threads)
        evaluation = ["--eval-only", "MODEL.WEIGHTS", str(output / "model.safetensors")]
        train_net(name, output, data, evaluation, threads)

    with ThreadPoolExecutor(args.workers) as pool:
        list(pool.map(one, product(args.seeds, args.variants)))
    say(f"\n{table(root, args.variants, args.seeds, args.joint)}\n")
    say(f"Time: {(time.monotonic() - start) / 60:.0f} minutes")


if __name__ == "__main__":
    main()
