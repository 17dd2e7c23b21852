"""Registering a dataset, decoding, and making augmented training samples.

The dataset has the size of ASSR's images (640 x 480). Files are cold after ``/proc/sys/vm/drop_caches`` (root
only), else after ``posix_fadvise`` on each of them.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from timing import Options, Row, Task, Variant, compare

AUGMENTATIONS = {
    "as published": [],
    "color, copy-paste, ranked crop": ["COLOR", "COPY_PASTE", "RANKED_CROP"],
    "large-scale jitter": ["LSJ"],
}


def measure(options: Options) -> list[Row]:
    """Measure everything in one process; workers read independently of one another."""
    with tempfile.TemporaryDirectory() as folder:
        make_folder(Path(folder) / "ASSR", 6 if options.quick else 500)
        return compare([Variant("ours", _tasks, (options, folder))], options)


def make_folder(root: Path, images: int) -> None:
    """Write an ASSR folder with copies of some generated photographs."""
    rng = np.random.default_rng(0)
    for part in ("images", "rank_order"):
        (root / part / "train").mkdir(parents=True)
    photos = []
    for index in range(8):
        small = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        image = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + rng.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
        photos.append(root / f"photo_{index}.jpg")
        cv2.imwrite(str(photos[-1]), image)
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    entries = []
    for index in range(images):
        name = f"COCO_train2014_{index:012d}"
        shutil.copyfile(photos[index % len(photos)], root / "images" / "train" / f"{name}.jpg")
        count = int(rng.integers(3, 12))
        objects = []
        for x, y, radius in rng.uniform((80, 80, 10), (560, 400, 70), (count, 3)):
            points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1).round(2)
            box = [*np.floor(points.min(0)), *np.ceil(points.max(0))]
            objects.append({"bbox": list(map(int, box)), "segmentation": [points.reshape(-1).tolist()]})
        entries.append({"img": name, "object_data": objects})
        values = [1.0, 0.9, 0.8, 0.7, 0.6, *[-0.3] * 10][:count]
        (root / "rank_order" / "train" / f"{name}.json").write_text(json.dumps({"rank_order": values}))
    (root / "obj_seg_data_train.json").write_text(json.dumps(entries))


def _drop_page_cache(root: Path) -> None:
    """Make the files of a folder cold."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        for path in root.rglob("*"):
            if path.is_file():
                with open(path, "rb") as stream:
                    os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _cold(root: Path, task: Task) -> dict[str, Any]:
    _drop_page_cache(root)
    start = time.perf_counter()
    task()
    return {"seconds": time.perf_counter() - start}


def _without_facts(action: Callable[[], Any]) -> None:
    action()


def _tasks(options: Options, folder: str) -> dict[str, Task]:
    from sor_ppa.config import load_config
    from sor_ppa.data.builtin import DatasetSource, register_all
    from sor_ppa.data.images import image_sizes
    from sor_ppa.data.mapper import RankingDatasetMapper
    from sor_ppa.data.train_loader import CheckedLoader, Samples, seed_all

    cv2.setNumThreads(1)
    register_all(folder)
    source = DatasetSource("assr_train", "ASSR", "assr", "train", folder)
    paths = sorted((Path(folder) / "ASSR/images/train").glob("*.jpg"))
    records = source()
    chosen = records[:50]
    done: Any = {  # functions whose result does not matter
        f"registering {len(paths)} images": source,
        "sizes from their headers": partial(image_sizes, paths),
        "decoding all of them": lambda: [cv2.imread(str(path)) for path in paths],
    }
    tasks: dict[str, Task] = {name: partial(_without_facts, action) for name, action in done.items()}
    tasks |= {f"{name}, cold": partial(_cold, Path(folder), task) for name, task in list(tasks.items())}

    def samples(mapper: Any) -> dict[str, Any]:
        data = Samples(chosen, mapper)
        for index in range(len(chosen)):
            seed_all(index)
            assert isinstance(data[index], dict)
        return {"done": len(chosen)}

    for name, keys in AUGMENTATIONS.items():
        words = [word for key in keys for word in (f"INPUT.{key}.ENABLED", "True")]
        cfg = load_config(options.config, ["MODEL.DEVICE", "cpu", *options.opts, *words])
        mapper = RankingDatasetMapper(cfg, is_train=True)
        if mapper.copy_paste is not None:
            mapper.copy_paste.set_donors(records)
        tasks[f"{len(chosen)} samples, {name}"] = partial(samples, mapper)

    def load(workers: int) -> dict[str, Any]:
        cfg = load_config(options.config, ["MODEL.DEVICE", "cpu", *options.opts])
        data = Samples(records, RankingDatasetMapper(cfg, is_train=True))
        loader = CheckedLoader(data, batch_size=2, num_workers=workers, collate_fn=list)
        batches = iter(loader)
        next(batches)  # starts the workers
        start = time.perf_counter()
        images = sum(len(batch) for batch in islice(batches, len(loader) - 1))
        seconds = time.perf_counter() - start
        assert next(batches, None) is None  # ends them
        return {"seconds": seconds, "done": images}

    for workers in (0, 1, 2):
        tasks[f"{len(records)} samples, {workers} workers"] = partial(load, workers)
    return tasks
