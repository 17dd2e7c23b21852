"""Writing of the synthetic benchmark as an ASSR folder."""

from __future__ import annotations

import functools
import json
import logging
import multiprocessing
import os
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from ...atomic import write_json
from ..assr import ASSR, SPLITS
from ..export import write_png
from ..issues import DatasetError
from ..masks import mask_box
from .rule import RuleWeights
from .scene import DIFFICULTIES, Scene, draw_scene, noisy_rank_values

logger = logging.getLogger(__name__)

MANIFEST = "synthetic.json"
_FORMAT = 3
_PARTS = ("images", "gt", "rank_order")
_CHUNK = 16  # scenes that a process draws at a time


@dataclass(frozen=True)
class SyntheticSpec:
    """Everything that decides the content of a synthetic dataset."""

    counts: Mapping[str, int]  # images of each split
    size: tuple[int, int, int, int] = (240, 320, 240, 320)  # least height and width, greatest, in pixels
    seed: int = 0  # at least 0; each split and image derives a seed of its own from it
    difficulty: str = "default"  # a key of ``DIFFICULTIES``
    weights: RuleWeights = field(default_factory=RuleWeights)  # of the ranking rule
    noise: float = 0.0  # of the annotator, in units of salience, see ``noisy_rank_values``; 0: none

    def __post_init__(self) -> None:
        low, high = self.size[:2], self.size[2:]
        sizes = 48 <= low[0] <= high[0] and 48 <= low[1] <= high[1]
        for key, fits, wanted, found in (
            ("split", set(self.counts) <= set(SPLITS), f"some of {', '.join(SPLITS)}", list(self.counts)),
            ("count", min(self.counts.values(), default=0) >= 0, "at least 0", dict(self.counts)),
            ("size", sizes, "at least 48 pixels per side, the least size first", self.size),
            ("seed", self.seed >= 0, "at least 0", self.seed),
            ("noise", 0 <= self.noise < float("inf"), "a number of at least 0", self.noise),
            ("difficulty", self.difficulty in DIFFICULTIES, f"one of {list(DIFFICULTIES)}", self.difficulty),
        ):
            if not fits:
                raise ValueError(f"{key}: expected {wanted}, found {found!r}")

    def as_json(self) -> dict[str, Any]:
        """Return plain data that is equal for two specs exactly if both make the same dataset."""
        cues = ("size", "centre", "contrast", "uniqueness")  # as in files of earlier versions
        return {
            "format": _FORMAT,
            "counts": {split: self.counts[split] for split in SPLITS if split in self.counts},
            "size": list(self.size),
            "seed": self.seed,
            "difficulty": self.difficulty,
            "weights": dict(zip(cues, astuple(self.weights), strict=True)),
            **({"noise": self.noise} if self.noise else {}),
        }

    def scene(self, split: str, index: int) -> Scene:
        """Draw one scene of the dataset."""
        seed = (self.seed, SPLITS.index(split), index)
        rng = np.random.default_rng(seed)
        height = int(rng.integers(self.size[0], self.size[2] + 1))
        width = int(rng.integers(self.size[1], self.size[3] + 1))
        options = replace(DIFFICULTIES[self.difficulty], weights=self.weights)
        scene = draw_scene(seed, height, width, options)
        if not self.noise:
            return scene
        annotator = np.random.default_rng((*seed, 1))
        return replace(scene, values=noisy_rank_values(scene.salience, self.noise, annotator))


def parse_size(text: str) -> tuple[int, int, int, int]:
    """Return ``HxW`` or ``HxW:HxW`` (least and greatest) as four numbers, or raise ``ValueError``."""
    found = re.fullmatch(r"(\d+)x(\d+)(?::(\d+)x(\d+))?", text, re.IGNORECASE | re.ASCII)
    if found is None:
        raise ValueError(f"size: expected HxW or HxW:HxW, such as 240x320, found {text!r}")
    height, width = int(found[1]), int(found[2])
    return height, width, int(found[3] or height), int(found[4] or width)


def _write_scenes(root: Path, spec: SyntheticSpec, split: str, indices: range) -> list[dict[str, Any]]:
    """Write the files of some scenes; return their entries of the object file."""
    entries = []
    for index in indices:
        scene, name = spec.scene(split, index), f"{split}_{index:06d}"
        painted = np.zeros(scene.image.shape[:2], np.uint8)
        objects = []
        for mask, polygons, value in zip(scene.masks, scene.polygons, scene.values, strict=True):
            objects.append({"bbox": list(mask_box(mask) or (0, 0, 0, 0)), "segmentation": polygons})
            if value > 0.5:
                painted[mask] = int(255 * value)
        (root / "images" / split / f"{name}.jpg").write_bytes(scene.jpeg)
        write_png(root / "gt" / split / f"{name}.png", painted)
        ranks = json.dumps({"rank_order": scene.values})
        (root / "rank_order" / split / f"{name}.json").write_text(ranks)
        entries.append({"img": name, "object_data": objects})
    return entries


def _prepare(root: Path, spec: SyntheticSpec, overwrite: bool) -> bool:
    """Prepare the folder; return False if it already holds this dataset."""
    manifest, started = root / MANIFEST, {"complete": False, "spec": spec.as_json()}
    if manifest.is_file():
        content = None
        with suppress(ValueError):
            content = json.loads(manifest.read_text())
        if content == {**started, "complete": True}:
            return False
        if content != started and not overwrite:
            found = "another synthetic dataset; choose another folder or overwrite it"
            raise DatasetError(f"{root}: expected an empty folder, found {found}")
        for split in SPLITS:
            for path in (ASSR.path(root, split), root / f"{split}_images.txt"):
                path.unlink(missing_ok=True)
            for part in _PARTS:
                shutil.rmtree(root / part / split, ignore_errors=True)
    elif root.exists() and any(root.iterdir()):
        raise DatasetError(f"{root}: expected an empty folder, found files not made by this tool")
    for split in spec.counts:
        for part in _PARTS:
            (root / part / split).mkdir(parents=True, exist_ok=True)
    write_json(manifest, started, indent=1)
    return True


def write_dataset(
    root: str | Path,
    spec: SyntheticSpec,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> bool:
    """Write a synthetic dataset, unless the folder holds it already; return whether anything was written.

    The files depend on ``spec`` alone.

    Args:
        root, spec: folder and content of the dataset.
        workers: processes; by default one per core.
        overwrite: replace another synthetic dataset in the folder.
        progress: show a progress bar on stderr.

    Raises:
        DatasetError: the folder holds something else.
        OSError: a file cannot be written.
    """
    root = Path(root)
    if not _prepare(root, spec, overwrite):
        logger.info("%s holds this dataset already", root)
        return False
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # here, not in the workers: forked ones cannot end the threads that OpenCV had
    try:
        _write_splits(root, spec, workers, progress)
    finally:
        cv2.setNumThreads(threads)
    write_json(root / MANIFEST, {"complete": True, "spec": spec.as_json()}, indent=1)
    return True


def _write_splits(root: Path, spec: SyntheticSpec, workers: int | None, progress: bool) -> None:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    bar = tqdm(total=sum(spec.counts.values()), unit="image", disable=not progress)
    for split, count in spec.counts.items():
        chunks = [range(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
        work = functools.partial(_write_scenes, root, spec, split)
        processes = min(workers or os.cpu_count() or 1, len(chunks))
        entries: list[dict[str, Any]] = []
        with ProcessPoolExecutor(max(processes, 1), context) as pool:
            for part in pool.map(work, chunks) if processes > 1 else map(work, chunks):
                entries += part
                bar.update(len(part))
        write_json(ASSR.path(root, split), entries)
        (root / f"{split}_images.txt").write_text("".join(f"{entry['img']}\n" for entry in entries))
    bar.close()
