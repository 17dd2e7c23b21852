"""Ranked images from masks, and a predictor that needs no model."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from detectron2.structures import Instances
from numpy.typing import NDArray

from sor_ppa.results import RankedImage, RankedObject


def ranked_image(picture_bgr: NDArray[np.uint8], masks: NDArray[np.bool_]) -> RankedImage:
    """The result for a picture whose objects are masks (N, H, W), most salient first."""
    height, width = picture_bgr.shape[:2]
    objects = []
    for rank, mask in enumerate(masks, 1):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = tuple(float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        objects.append(RankedObject(rank, float(-rank), 0.9, box, mask))
    instances = Instances((height, width), pred_masks=torch.from_numpy(masks))
    return RankedImage(None, height, width, tuple(objects), instances, picture_bgr)


class BrightSquares:
    """A predictor that finds the pixels of given gray levels, the first level first."""

    batch_size = 4

    def __init__(self, levels: Iterable[int] = (250, 200)) -> None:
        self.levels = tuple(levels)

    def prepare(self, pictures: int) -> None:
        """There is nothing to convert."""

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> list[RankedImage]:
        results = []
        for picture in pictures:
            gray = picture.astype(int).mean(axis=2)
            masks = np.stack([np.abs(gray - level) < 15 for level in self.levels])
            results.append(ranked_image(picture, masks[masks.any(axis=(1, 2))]))
        return results


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
