"""Reading and scoring from one thousand records up: processor time and memory by their number.

Both use one thread. Images are 120 x 160 and all the same file; an image has five ranked objects and, for
scoring, eight predictions.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from timing import Options, Row, Task, Variant, compare

_FIRST = 1000
_PER_FOLDER = 10_000  # links to one image in a folder
_OBJECTS = 5


def measure(options: Options) -> list[Row]:
    """Measure sizes that grow by ten up to ``options.largest``, once each after a warm-up."""
    sizes = [10, 20] if options.quick else []
    while not options.quick and (size := _FIRST * 10 ** len(sizes)) <= options.largest:
        sizes.append(size)
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            _write_coco(Path(folder), size)
        variants = [Variant("reading", _reading, (folder, sizes)), Variant("scoring", _scoring, (sizes,))]
        return compare(variants, replace(options, runs=1), warm_ups=0)


def _write_coco(root: Path, count: int) -> None:
    """Write a COCO file with ranked objects; all images are links to one."""
    folder = root / f"many{count}"
    (folder / "annotations").mkdir(parents=True)
    cv2.imwrite(str(root / "photo.jpg"), np.zeros((120, 160, 3), np.uint8))
    names = [f"{index // _PER_FOLDER}/{index}.jpg" for index in range(count)]
    for number in range(-(-count // _PER_FOLDER)):
        (folder / "images" / str(number)).mkdir(parents=True)
    for name in names:
        os.symlink(root / "photo.jpg", folder / "images" / name)
    images = ({"id": i, "file_name": name, "height": 120, "width": 160} for i, name in enumerate(names))
    with (folder / "annotations/rank_train.json").open("w") as file:  # piece by piece: it may be large
        file.write('{"categories": [{"id": 1, "name": "object"}], "images": [')
        _write_items(file, images)
        file.write('], "annotations": [')
        _write_items(file, _annotations(count))
        file.write("]}")


def _write_items(file: TextIO, items: Iterable[dict[str, Any]]) -> None:
    for number, item in enumerate(items):
        file.write((", " if number else "") + json.dumps(item))


def _annotations(images: int) -> Iterator[dict[str, Any]]:
    for index in range(images):
        for rank in range(_OBJECTS):
            x, y = 10 + 25 * rank, 10 + (index + 7 * rank) % 60
            outline = [x, y, x + 20, y, x + 20, y + 30, x, y + 30]
            item: dict[str, Any] = {"id": index * _OBJECTS + rank + 1, "image_id": index, "category_id": 1}
            item |= {"bbox": [x, y, 20, 30], "segmentation": [outline], "area": 600, "iscrowd": 0}
            yield item | {"rank": rank}


def _timed(action: Callable[[int], int], size: int) -> dict[str, Any]:
    """Return the processor time of an action."""
    start = time.process_time()
    done = action(size)
    return {"seconds": time.process_time() - start, "done": done}


def _tasks(name: str, action: Callable[[int], int], sizes: list[int]) -> dict[str, Task]:
    action(sizes[0])  # a warm-up
    return {f"{name} (processor time), records={size}": partial(_timed, action, size) for size in sizes}


def _reading(folder: str, sizes: list[int]) -> dict[str, Task]:
    from sor_ppa.data.builtin import DatasetSource

    def read(size: int) -> int:
        return len(DatasetSource("many", f"many{size}", "coco", "train", folder)())

    return _tasks("reading", read, sizes)


def _scoring(sizes: list[int]) -> dict[str, Task]:
    from evaluation import make_scene

    from sor_ppa.evaluation import RankingScorer
    from sor_ppa.evaluation.command import BLOCK, score_tasks
    from sor_ppa.evaluation.predictions import InstanceEntry

    generator = np.random.default_rng(0)
    tasks: list[Any] = []
    for place in range(20):
        scene = make_scene(generator, _OBJECTS, 8, 120, 160)
        pairs = zip(scene.gt_rles, scene.ranks.tolist(), strict=True)
        record = {"image_id": place, "file_name": "photo.jpg", "height": 120, "width": 160}
        record["annotations"] = [{"segmentation": rle, "gt_rank": rank} for rle, rank in pairs]
        found = zip(scene.pred_rles, scene.scores.tolist(), strict=True)
        tasks.append((record, [InstanceEntry(rle, score, 1.0, None, "") for rle, score in found]))

    def score(size: int) -> int:
        scorer = RankingScorer()
        endless = cycle(tasks)
        for first in range(0, size, BLOCK):
            block = list(islice(endless, min(BLOCK, size - first)))
            for row, _ in score_tasks(block, scorer=scorer, kind="instances", sod=False):
                if row is not None:
                    scorer.add_scores(row["scores"])
        return scorer.result()["sa_sor"]["irsr"]["images"]

    return _tasks("scoring", score, sizes)
