"""Writing of the synthetic benchmark as an ASSR folder."""

from __future__ import annotations

import functools
import json
import logging
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..assr import SPLITS
from ..issues import DatasetError
from ..masks import mask_box
from .rule import RuleWeights
from .scene import DIFFICULTIES, Scene, draw_scene

__all__ = ["MANIFEST", "SyntheticSpec", "parse_size", "write_dataset"]

logger = logging.getLogger(__name__)

MANIFEST = "synthetic.json"
_FORMAT = 3
_PARTS = ("images", "gt", "rank_order")


@dataclass(frozen=True)
class SyntheticSpec:
    """All that decides the content of a synthetic dataset.

    Attributes:
        counts: images of each split.
        size: (least height, least width, greatest height, greatest width) in pixels.
        seed: at least 0; splits and images derive their own seeds from it, none shares one.
        difficulty: a key of ``DIFFICULTIES``.
        weights: of the ranking rule.
    """

    counts: Mapping[str, int]
    size: tuple[int, int, int, int] = (240, 320, 240, 320)
    seed: int = 0
    difficulty: str = "default"
    weights: RuleWeights = field(default_factory=RuleWeights)

    def __post_init__(self) -> None:
        for split, count in self.counts.items():
            if split not in SPLITS:
                raise ValueError(f"split: found {split!r}, expected one of {', '.join(SPLITS)}")
            if count < 0:
                raise ValueError(f"count of {split}: found {count}, expected at least 0")
        low, high = self.size[:2], self.size[2:]
        if min(low) < 48 or low[0] > high[0] or low[1] > high[1]:
            raise ValueError(f"size: found {self.size}, expected at least 48 pixels a side, least first")
        if self.seed < 0:
            raise ValueError(f"seed: found {self.seed}, expected at least 0")
        if self.difficulty not in DIFFICULTIES:
            expected = ", ".join(DIFFICULTIES)
            raise ValueError(f"difficulty: found {self.difficulty!r}, expected one of {expected}")

    def as_json(self) -> dict[str, Any]:
        """Plain data that equals that of another spec exactly if both make the same dataset."""
        return {
            "format": _FORMAT,
            "counts": {split: self.counts[split] for split in SPLITS if split in self.counts},
            "size": list(self.size),
            "seed": self.seed,
            "difficulty": self.difficulty,
            "weights": asdict(self.weights),
        }

    def scene(self, split: str, index: int) -> Scene:
        """Draw one scene of the dataset."""
        seed = (self.seed, SPLITS.index(split), index)
        rng = np.random.default_rng(seed)
        height = int(rng.integers(self.size[0], self.size[2] + 1))
        width = int(rng.integers(self.size[1], self.size[3] + 1))
        return draw_scene(seed, height, width, DIFFICULTIES[self.difficulty], self.weights)


def parse_size(text: str) -> tuple[int, int, int, int]:
    """``HxW`` or ``HxW:HxW`` (least and greatest) as four numbers.

    Raises:
        ValueError: the text says something else.
    """
    try:
        parts = [tuple(int(number) for number in part.lower().split("x")) for part in text.split(":")]
        if len(parts) not in (1, 2) or any(len(part) != 2 for part in parts):
            raise ValueError
    except ValueError:
        raise ValueError(f"size: found {text!r}, expected HxW or HxW:HxW, such as 240x320") from None
    return (*parts[0], *parts[-1])  # type: ignore[return-value]


def _write_scene(root: Path, split: str, index: int, scene: Scene) -> dict[str, Any]:
    """Write the files of one scene; returns its entry of the object file."""
    name = f"{split}_{index:06d}"
    painted = np.zeros(scene.image.shape[:2], np.uint8)
    objects = []
    for mask, polygons, value in zip(scene.masks, scene.polygons, scene.values, strict=True):
        objects.append({"bbox": list(mask_box(mask) or (0, 0, 0, 0)), "segmentation": polygons})
        if value > 0.5:
            painted[mask] = int(255 * value)
    (root / "images" / split / f"{name}.jpg").write_bytes(scene.jpeg)
    done, data = cv2.imencode(".png", painted)
    if not done:
        raise OSError(f"{name}: map could not be encoded")
    (root / "gt" / split / f"{name}.png").write_bytes(data.tobytes())
    ranks = json.dumps({"rank_order": scene.values})
    (root / "rank_order" / split / f"{name}.json").write_text(ranks)
    return {"img": name, "object_data": objects}


def _write_chunk(root: str, spec: SyntheticSpec, split: str, indices: range) -> list[dict[str, Any]]:
    return [_write_scene(Path(root), split, index, spec.scene(split, index)) for index in indices]


def _single_threaded() -> None:
    cv2.setNumThreads(1)


def _results(
    work: Callable[[range], list[dict[str, Any]]], chunks: list[range], workers: int
) -> Iterator[list[dict[str, Any]]]:
    if workers <= 1:
        yield from map(work, chunks)
        return
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("fork" if "fork" in methods else None)
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_single_threaded) as pool:
        yield from pool.map(work, chunks)


def _prepare(root: Path, spec: SyntheticSpec, overwrite: bool) -> bool:
    """Make the folder ready; false if it holds this very dataset already."""
    manifest = root / MANIFEST
    if root.exists() and not root.is_dir():
        raise DatasetError(f"{root}: exists and is not a folder")
    if manifest.is_file():
        try:
            found = json.loads(manifest.read_text())
        except ValueError:
            found = {}
        same = isinstance(found, dict) and found.get("spec") == spec.as_json()
        if same and found.get("complete"):
            return False
        if not same and not overwrite:
            raise DatasetError(
                f"{root}: holds another synthetic dataset; choose another folder or overwrite it"
            )
        for split in SPLITS:
            for part in _PARTS:
                shutil.rmtree(root / part / split, ignore_errors=True)
            (root / f"obj_seg_data_{split}.json").unlink(missing_ok=True)
            (root / f"{split}_images.txt").unlink(missing_ok=True)
    elif root.exists() and any(root.iterdir()):
        raise DatasetError(f"{root}: not empty, and not made by this tool; choose another folder")
    for split in spec.counts:
        for part in _PARTS:
            (root / part / split).mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"complete": False, "spec": spec.as_json()}, indent=1))
    return True


def write_dataset(
    root: str | Path,
    spec: SyntheticSpec,
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> bool:
    """Write a synthetic dataset; the files depend on ``spec`` alone, not on the number of workers.

    Args:
        root: the folder of the dataset, such as ``datasets/synthetic_sor``.
        spec: what to write.
        workers: processes; by default one a core.
        overwrite: replace another synthetic dataset in the folder.
        progress: called with (images done, images in all).

    Returns:
        whether anything was written; false if the folder held this very dataset.

    Raises:
        DatasetError: the folder holds something else.
        OSError: a file cannot be written.
    """
    root = Path(root)
    if not _prepare(root, spec, overwrite):
        logger.info("%s holds this dataset already", root)
        return False
    if workers is None:
        workers = os.cpu_count() or 1
    total, done = sum(spec.counts.values()), 0
    for split, count in spec.counts.items():
        chunks = [range(start, min(start + 16, count)) for start in range(0, count, 16)]
        work = functools.partial(_write_chunk, str(root), spec, split)
        entries: list[dict[str, Any]] = []
        for part in _results(work, chunks, min(workers, len(chunks))):
            entries += part
            done += len(part)
            if progress is not None:
                progress(done, total)
        _write_lists(root, split, entries)
    complete = {"complete": True, "spec": spec.as_json()}
    (root / MANIFEST).write_text(json.dumps(complete, indent=1))
    return True


def _write_lists(root: Path, split: str, entries: Iterable[dict[str, Any]]) -> None:
    entries = list(entries)
    (root / f"obj_seg_data_{split}.json").write_text(json.dumps(entries))
    (root / f"{split}_images.txt").write_text("".join(f"{entry['img']}\n" for entry in entries))
