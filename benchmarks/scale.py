"""Reading and scoring from one thousand records up: time and memory by their number."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from timing import Options, Row, Task, Variant, compare

_FIRST = 1000
_PER_FOLDER = 10_000  # links to one image in a folder


def measure(options: Options) -> list[Row]:
    """Measure sizes that grow by ten up to ``options.largest``, once each after a warm-up."""
    sizes = [10, 20] if options.quick else []
    while not options.quick and (size := _FIRST * 10 ** len(sizes)) <= options.largest:
        sizes.append(size)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            _write_coco(Path(folder), size)
        variants = [Variant("ours", _tasks, (folder, sizes))]
        return compare(variants, replace(options, runs=1))


def _write_coco(root: Path, count: int) -> None:
    """Write a COCO file with five ranked objects an image; all images are links to one."""
    folder = root / f"many{count}"
    (folder / "annotations").mkdir(parents=True)
    cv2.imwrite(str(root / "photo.jpg"), np.zeros((120, 160, 3), np.uint8))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        name = f"{index // _PER_FOLDER}/{index}.jpg"
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(root / "photo.jpg", folder / "images" / name)
        images.append({"id": index, "file_name": name, "height": 120, "width": 160})
        for rank in range(5):
            x, y = 10 + 25 * rank, 10 + (index + 7 * rank) % 60
            outline = [x, y, x + 20, y, x + 20, y + 30, x, y + 30]
            item: dict[str, Any] = {"id": len(annotations) + 1, "image_id": index, "category_id": 1}
            item |= {"bbox": [x, y, 20, 30], "segmentation": [outline], "area": 600, "iscrowd": 0}
            annotations.append(item | {"rank": rank})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    (folder / "annotations/rank_train.json").write_text(json.dumps(content))


def _tasks(folder: str, sizes: list[int]) -> dict[str, Task]:
    from evaluation import make_scene

    from sor_ppa.data.builtin import DatasetSource
    from sor_ppa.evaluation import RankingScorer

    generator = np.random.default_rng(0)
    scenes = [make_scene(generator, 5, 8, 120, 160) for _ in range(20)]

    def read(size: int) -> dict[str, Any]:
        source = DatasetSource("many", f"many{size}", "coco", "train", folder)
        return {"records": len(source())}

    def score(size: int) -> dict[str, Any]:
        scorer = RankingScorer()
        for scene in islice(cycle(scenes), size):
            scorer.add_rles(scene.gt_rles, scene.ranks, scene.pred_rles, scene.scores, (120, 160))
        return {"images": scorer.result()["sa_sor"]["irsr"]["images"]}

    tasks: dict[str, Task] = {f"reading, records={size}": partial(read, size) for size in sizes}
    return tasks | {f"scoring, records={size}": partial(score, size) for size in sizes}
