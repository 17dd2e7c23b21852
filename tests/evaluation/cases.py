"""The reference numbers, and small scenes for other tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sor_ppa.evaluation import ImageScores

FOLDER = Path(__file__).resolve().parents[1] / "fixtures" / "metrics"
STATUS = {"s": "skipped", "n": "nan_as_0", "e": "error"}


class Case(SimpleNamespace):
    """A case of reference.json with masks; ``values[metric][variant]`` = (value or None, status)."""

    def image(self) -> ImageScores:
        return ImageScores.from_masks(self.gt, self.gt_rank, self.pred, self.pred_score, self.pred_confidence)


@cache
def reference() -> dict[str, Any]:
    return json.loads((FOLDER / "reference.json").read_text())


@cache
def cases() -> dict[str, Case]:
    """All cases by id."""
    found = {}
    with np.load(FOLDER / "cases.npz") as arrays:
        for entry in reference()["cases"]:
            size = entry["height"], entry["width"]
            pred = arrays[entry["id"] + "_pred"]
            found[entry["id"]] = Case(**entry)
            found[entry["id"]].gt = unpack(arrays[entry["id"] + "_gt"], size)
            found[entry["id"]].pred = pred.astype(np.float32) / 256 if entry["soft"] else unpack(pred, size)
            found[entry["id"]].values = {
                metric: dict(zip(names, map(_value, entry["values"][metric]), strict=True))
                for metric, names in reference()["variants"].items()
            }
    return found


def unpack(packed: NDArray, size: tuple[int, int]) -> NDArray:
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
    center_y, center_x = generator.uniform(0, 1, (2, count, 1, 1)) * np.array(size).reshape(2, 1, 1, 1)
    radius_y, radius_x = generator.uniform(2, 9, (2, count, 1, 1))
    return ((y - center_y) / radius_y) ** 2 + ((x - center_x) / radius_x) ** 2 < 1
