"""The training loader for all or a fraction of the labeled images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts

logger = logging.getLogger(__name__)

T = TypeVar("T")


def evenly(items: Sequence[T], fraction: float) -> list[T]:
    """Return a fraction (0 to 1) of the items, evenly spaced, at least one; always the same ones."""
    assert 0 < fraction <= 1, fraction
    count = min(len(items), max(1, round(len(items) * fraction)))
    return [items[i * len(items) // count] for i in range(count)]


def train_loader(cfg: CfgNode, mapper: Any) -> Any:
    """Return detectron2's training loader for ``DATASETS.TRAIN_FRACTION`` of ``DATASETS.TRAIN``."""
    fraction = float(cfg.DATASETS.TRAIN_FRACTION)
    if fraction == 1:
        return build_detection_train_loader(cfg, mapper=mapper)
    records = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    part = evenly(records, fraction)
    logger.info("Training on %d of %d images (DATASETS.TRAIN_FRACTION)", len(part), len(records))
    return build_detection_train_loader(cfg, mapper=mapper, dataset=part)
