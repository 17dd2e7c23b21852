"""The compact copy of the reference numbers, and small scenes for other tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sor_ppa.evaluation import ImageScores

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "metrics"
STATUS = {"s": "skipped", "n": "nan_as_0", "e": "error"}


@dataclass(frozen=True)
class Case:
    """One reference case: arrays, and ``values[metric][variant]`` = (value or None, status)."""

    id: str
    name: str
    tags: tuple[str, ...]
    core: bool
    gt: NDArray
    pred: NDArray
    gt_rank: list[int]
    pred_score: list[float]
    pred_confidence: list[float]
    values: dict[str, dict[str, tuple[float | None, str]]]
    map_crc32: dict[str, int]

    def image(self) -> ImageScores:
        """The case as the metrics see it."""
        return ImageScores.from_masks(self.gt, self.gt_rank, self.pred, self.pred_score, self.pred_confidence)


@cache
def reference() -> dict[str, Any]:
    """The JSON part."""
    return json.loads((FOLDER / "reference.json").read_text())


@cache
def cases() -> dict[str, Case]:
    """All cases by id."""
    content = reference()
    found = {}
    with np.load(FOLDER / "cases.npz") as arrays:
        for entry in content["cases"]:
            size = entry["height"], entry["width"]
            gt = _unpack(arrays[entry["id"] + "_gt"], size)
            pred = arrays[entry["id"] + "_pred"]
            pred = pred.astype(np.float32) / 256 if entry["soft"] else _unpack(pred, size)
            values = {
                metric: dict(zip(names, map(_value, entry["values"][metric]), strict=True))
                for metric, names in content["variants"].items()
            }
            found[entry["id"]] = Case(
                id=entry["id"],
                name=entry["name"],
                tags=tuple(entry["tags"]),
                core=entry["core"],
                gt=gt,
                pred=pred,
                gt_rank=entry["gt_rank"],
                pred_score=entry["pred_score"],
                pred_confidence=entry["pred_confidence"],
                values=values,
                map_crc32=entry["map_crc32"],
            )
    return found


def _unpack(packed: NDArray, size: tuple[int, int]) -> NDArray:
    return np.unpackbits(packed, axis=1, count=size[0] * size[1]).reshape(-1, *size)


def _value(entry: float | str) -> tuple[float | None, str]:
    return (None, STATUS[entry]) if isinstance(entry, str) else (entry, "counted")


def boxes(*rectangles: tuple[int, int, int, int], size: tuple[int, int] = (24, 32)) -> NDArray[np.bool_]:
    """(N, H, W) masks of rectangles (top, left, bottom, right)."""
    masks = np.zeros((len(rectangles), *size), np.bool_)
    for mask, (top, left, bottom, right) in zip(masks, rectangles, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def blobs(generator: np.random.Generator, count: int, size: tuple[int, int] = (24, 32)) -> NDArray[np.bool_]:
    """(count, H, W) random ellipses that may overlap."""
    y, x = np.mgrid[: size[0], : size[1]]
    centre_y, centre_x = generator.uniform(0, 1, (2, count, 1, 1)) * np.array(size).reshape(2, 1, 1, 1)
    radius_y, radius_x = generator.uniform(2, 9, (2, count, 1, 1))
    return ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 < 1
