"""One of several processes that evaluate a data set: ``python -m tests.evaluation.gather RANK WORLD DIR``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch.distributed as dist
from detectron2.data import DatasetCatalog

from sor_ppa.evaluation.evaluator import SOREvaluator
from sor_ppa.launching import leave_group

from .scenes import dataset, predictions


def main(rank: int, world: int, folder: str) -> None:
    """Evaluates every ``world``-th image, and the first image in all processes."""
    if world > 1:
        store = dist.FileStore(f"{folder}/store", world)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=world)
    DatasetCatalog.register("gathered", dataset)
    evaluator = SOREvaluator("gathered", output_dir=f"{folder}/out{world}", saliency=True)
    for record in [dataset()[0], *dataset()[rank::world]]:
        evaluator.process([record], [{"instances": predictions(record)}])
    Path(f"{folder}/results-{world}-{rank}.json").write_text(json.dumps(evaluator.evaluate()))
    if world > 1:
        leave_group()
        names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
        assert not any("gloo" in name for name in names), names


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
