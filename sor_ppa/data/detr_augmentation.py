"""The augmentation that DETR-like detectors train with."""

from __future__ import annotations

from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T

__all__ = ["Choose", "detr_augmentation"]


class Choose(T.Augmentation):
    """One of several augmentations, each with the same probability.

    Args:
        choices: the augmentations.
    """

    def __init__(self, choices: list[T.Augmentation]) -> None:
        super().__init__()
        self.choices = choices

    def __call__(self, aug_input: Any) -> T.Transform:
        """Apply the chosen one to ``aug_input``, in place."""
        return self.choices[np.random.randint(len(self.choices))](aug_input)


def detr_augmentation(cfg: CfgNode) -> list[T.Augmentation]:
    """Flip; then resize, or resize, crop and resize (DETR, A.4).

    The last resize takes the short side from ``INPUT.MIN_SIZE_TRAIN`` and limits the long one to
    ``INPUT.MAX_SIZE_TRAIN``. In one of two cases the image is brought to a short side of 400, 500 or 600
    before, and a rectangle with sides of 384 to 600 is cut out.
    """
    final = T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, "choice")
    cropped = T.AugmentationList(
        [
            T.ResizeShortestEdge((400, 500, 600), sample_style="choice"),
            T.RandomCrop("absolute_range", (384, 600)),
            final,
        ]
    )
    return [T.RandomFlip(), Choose([final, cropped])]
