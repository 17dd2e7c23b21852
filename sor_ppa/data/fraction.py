"""Training on a part of the labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts

__all__ = ["evenly", "train_loader"]

_log = logging.getLogger(__name__)

T = TypeVar("T")


def evenly(items: Sequence[T], fraction: float) -> list[T]:
    """Every n-th item, so that a part of the whole remains; always the same one.

    Args:
        items: in a fixed order.
        fraction: of them that stay, in (0, 1]; at least one does.

    Raises:
        ValueError: the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"DATASETS.TRAIN_FRACTION: found {fraction}, expected a value in (0, 1]")
    count = min(len(items), max(1, round(len(items) * fraction)))
    return [items[i * len(items) // count] for i in range(count)]


def train_loader(cfg: CfgNode, mapper: Any) -> Any:
    """detectron2's training loader on ``DATASETS.TRAIN_FRACTION`` of the images of ``DATASETS.TRAIN``."""
    fraction = float(cfg.DATASETS.TRAIN_FRACTION)
    if fraction == 1:
        return build_detection_train_loader(cfg, mapper=mapper)
    records = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    part = evenly(records, fraction)
    _log.info("Training on %d of %d images (DATASETS.TRAIN_FRACTION)", len(part), len(records))
    return build_detection_train_loader(cfg, mapper=mapper, dataset=part)
