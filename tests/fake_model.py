"""A model that needs no weights: rectangles whose number, scores and ranks follow from the picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray
from torch import nn

from sor_ppa import add_sor_config
from sor_ppa.predictor import SORPredictor


def fake_config(**changes: Any) -> CfgNode:
    """A config that resizes to small pictures; ``changes`` are keys of ``INPUT``."""
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 64, 100
    for key, value in changes.items():
        setattr(cfg.INPUT, key, value)
    return cfg


def picture(height: int = 60, width: int = 80, seed: int = 0) -> NDArray[np.uint8]:
    """A picture (H, W, 3) of noise."""
    return np.random.default_rng(seed).integers(100, 256, (height, width, 3), dtype=np.uint8)


class FakeModel(nn.Module):
    """Finds ``count`` boxes side by side; keeps the images that it is given, a list for each batch.

    The scores depend on the mean of the padded batch, so that padding for a neighbor's sake
    would show. The last object has no rank; before it ranks fall from the right to the left.
    ``change`` may change the instances.
    """

    def __init__(self, count: int = 3, change: Callable[[Instances], None] | None = None) -> None:
        super().__init__()
        self.count, self.change = count, change
        self.backbone = nn.Module()
        self.backbone.size_divisibility = 32
        self.batches: list[list[torch.Tensor]] = []

    def forward(self, inputs: list[dict]) -> list[dict]:
        assert not self.training
        assert not torch.is_grad_enabled()
        self.batches.append([item["image"] for item in inputs])
        height, width = (-(-max(x.shape[axis] for x in self.batches[-1]) // 32) * 32 for axis in (1, 2))
        return [{"instances": self._found(item, height * width)} for item in inputs]

    def _found(self, item: dict, padded: int) -> Instances:
        height, width = item["height"], item["width"]
        found = Instances((height, width))
        edges = torch.linspace(0, width, self.count + 1).round()
        zeros = torch.zeros(self.count)
        found.pred_boxes = Boxes(torch.stack([edges[:-1], zeros, edges[1:], zeros + height], dim=1))
        columns = torch.arange(width).expand(height, width)
        found.pred_masks = (columns >= edges[:-1, None, None]) & (columns < edges[1:, None, None])
        level = item["image"].sum() / (255.0 * 3 * padded)
        found.scores = level * (1 - torch.arange(self.count) / 10)
        found.pred_classes = torch.zeros(self.count, dtype=torch.int64)
        found.mask_scores = found.scores
        found.pred_ranks = torch.arange(self.count) + 1
        if self.count:
            found.pred_ranks[-1] = -1
        found.pred_rank_scores = found.pred_ranks + found.scores
        if self.change is not None:
            self.change(found)
        return found


def fake_predictor(model: Any = None, **options: Any) -> SORPredictor:
    """A predictor with a fake model."""
    return SORPredictor(fake_config(), model=model or FakeModel(), **options)
