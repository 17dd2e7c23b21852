#!/usr/bin/env python
"""Compare ranks and speed of half precision (``TEST.AMP``) and float32 on a dataset.

Two objects match if each has its largest box IoU with the other, and this IoU is at least 0.5. The ranks of
an image are kept if both results have the same objects in the same order.

Example:
    python benchmarks/bench_half_precision.py --config-file configs/sor/demo.yaml \\
        DATASETS.ROOT output/demo/datasets MODEL.WEIGHTS output/demo/model_final.pth
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from typing import Any

import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances, pairwise_iou

from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.config import load_config
from sor_ppa.data import register_from_config
from sor_ppa.engine import Trainer


def order(instances: Instances) -> torch.Tensor:
    """Return the rows of the ranked objects, the most salient first."""
    ranked = torch.nonzero(instances.pred_ranks >= 0)[:, 0]
    return ranked[instances.pred_ranks[ranked].argsort(descending=True, stable=True)]


def same_ranks(full: Instances, half: Instances) -> tuple[bool, bool]:
    """Return whether both results have the same objects, and whether the shared ones have the same order."""
    a, b = full[order(full)], half[order(half)]
    if len(a) == 0 or len(b) == 0:
        return len(a) == len(b), True
    overlap = pairwise_iou(a.pred_boxes, b.pred_boxes)
    partner, back = overlap.argmax(1), overlap.argmax(0)
    found = (overlap.amax(1) >= 0.5) & (back[partner] == torch.arange(len(a)))
    places = partner[found]
    return len(a) == len(b) and bool(found.all()), bool((places.diff() > 0).all())


def predict(model: Any, batches: Iterable[Any], dtype: torch.dtype | None) -> tuple[list[Instances], float]:
    """Return the results of all images, and the seconds in the model."""
    results, seconds = [], 0.0
    device = next(model.parameters()).device.type
    for batch in batches:
        start = time.perf_counter()
        with torch.no_grad(), torch.autocast(device, dtype=dtype, enabled=dtype is not None):
            found = [r["instances"].to(torch.device("cpu")) for r in model(batch)]
        seconds += time.perf_counter() - start
        results += found
    return results, seconds


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config-file", default="configs/sor/demo.yaml")
    parser.add_argument("opts", nargs="*", help="KEY VALUE pairs")
    args = parser.parse_args()
    cfg = load_config(args.config_file, args.opts)
    register_from_config(cfg)
    model = build_model(cfg).eval()
    SORCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    batches = list(Trainer.build_test_loader(cfg, cfg.DATASETS.TEST[0]))
    predict(model, batches[:1], None)  # warm up
    full, seconds = predict(model, batches, None)
    sys.stdout.write(f"{len(full)} images, {cfg.MODEL.DEVICE}, {torch.get_num_threads()} threads\n")
    for dtype in (torch.float16, torch.bfloat16):
        half, took = predict(model, batches, dtype)
        pairs = [same_ranks(a, b) for a, b in zip(full, half, strict=True)]
        kept = sum(objects and ranks for objects, ranks in pairs) / len(pairs)
        objects, ranks = (sum(column) / len(pairs) for column in zip(*pairs, strict=True))
        sys.stdout.write(
            f"{dtype}: ranks kept on {kept:.1%} of the images (same objects {objects:.1%}, same order "
            f"{ranks:.1%}), {seconds / took:.2f} times as fast\n"
        )


if __name__ == "__main__":
    main()
