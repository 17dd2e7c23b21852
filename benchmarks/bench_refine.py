#!/usr/bin/env python
"""Measure boundary quality (mBA), mask AP and ranking before and after ``MODEL.SOR.REFINE`` on a dataset.

mBA is the mean over the ground-truth objects that a mask covers with an IoU of at least 0.5, on the crop of
the object with a margin; the same objects are used before and after.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import torch
from detectron2.modeling import build_model
from numpy.typing import NDArray

from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.config import load_config
from sor_ppa.data import register_from_config
from sor_ppa.data.masks import mask_box
from sor_ppa.engine import Trainer
from sor_ppa.evaluation import SOREvaluator
from sor_ppa.evaluation.boundary import boundary_accuracy
from sor_ppa.evaluation.ground_truth import truth_from_dict
from sor_ppa.saliency_refinement import with_saliency

Masks = NDArray[np.bool_]


def overlaps(truth: Masks, found: Masks) -> NDArray[np.float64]:
    """Return the IoU of each true with each found mask, (G, N)."""
    a, b = (masks.reshape(len(masks), -1).astype(np.float32) for masks in (truth, found))
    both = a @ b.T
    return both / np.maximum(a.sum(1)[:, None] + b.sum(1)[None] - both, 1)


def boundary(truth: Masks, found: Masks) -> float | None:
    """Return the mBA of one object on its crop."""
    box = mask_box(truth)
    assert box is not None
    margin = [(box[2 + axis] - box[axis]) // 5 for axis in range(2)]
    rows = slice(max(box[1] - margin[1], 0), box[3] + margin[1])
    columns = slice(max(box[0] - margin[0], 0), box[2] + margin[0])
    return boundary_accuracy(found[rows, columns], truth[rows, columns])


def main() -> None:
    """Print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--dataset", default="synthetic_sor_test")
    parser.add_argument("--images", type=int, default=0, help="use only the first images (default: all)")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE")
    args = parser.parse_args()
    cfg = load_config(args.config_file, ["MODEL.SOR.REFINE", "True", *args.opts])
    register_from_config(cfg)
    model = build_model(cfg).eval()
    SORCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    stage: Any = with_saliency(cfg, model)

    evaluators = {name: SOREvaluator(args.dataset, distributed=False) for name in ("before", "after")}
    scores: dict[str, list[float]] = {"before": [], "after": []}
    seconds, objects = 0.0, 0
    for evaluator in evaluators.values():
        evaluator.reset()
    for index, batch in enumerate(Trainer.build_test_loader(cfg, args.dataset)):
        if args.images and index >= args.images:
            break
        with torch.no_grad():
            before = model(batch)
            for item, result in zip(batch, before, strict=True):
                start = time.perf_counter()
                after = [{"instances": stage.refine(item, result["instances"])}]
                seconds += time.perf_counter() - start
                objects += int((result["instances"].pred_ranks >= 0).sum())
                evaluators["before"].process([item], [result])
                evaluators["after"].process([item], after)
                record = evaluators["before"]._dicts[item["image_id"]]
                truth = truth_from_dict(record).ranked_masks().astype(bool)
                masks = [r["instances"].pred_masks.numpy() for r in (result, after[0])]
                ranked = result["instances"].pred_ranks.numpy() >= 0
                if not ranked.any() or not len(truth):
                    continue
                shared = overlaps(truth, masks[0][ranked])
                for row, column in enumerate(shared.argmax(1)):
                    if shared[row, column] >= 0.5:
                        for name, found in zip(scores, masks, strict=True):
                            value = boundary(truth[row], found[ranked][column])
                            if value is not None:
                                scores[name].append(value)
    for name, evaluator in evaluators.items():
        results = evaluator.evaluate()
        segm, sor = results["segm"], results["sor"]
        mba, count = np.mean(scores[name]), len(scores[name])
        sys.stdout.write(f"{name:7s} mBA {mba:.4f} ({count} objects)  mask AP {segm['AP']:.2f} ")
        sys.stdout.write(f"AP50 {segm['AP50']:.2f} AP75 {segm['AP75']:.2f}  ")
        sys.stdout.write(f"SA-SOR {sor['SA-SOR']:.4f} MAE {sor['MAE']:.4f}\n")
    sys.stdout.write(f"{seconds / max(objects, 1):.3f} s per ranked object\n")


if __name__ == "__main__":
    main()
