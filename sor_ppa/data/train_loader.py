"""Loaders of training and test images.

A training batch depends on the seed and on its number alone, not on worker processes or on batches before it.
So a training that starts at any iteration sees what an uninterrupted one sees there.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.detection_utils import SizeMismatchError
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..processes import exit_with_parent
from ..visualization.files import ImageReadError
from .issues import DatasetError
from .shards import ShardTrainingSampler

__all__ = ["CheckedLoader", "Samples", "TrainingBatches", "evenly", "seed_all", "train_loader"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
_REPLACEMENTS = 100  # images tried in place of one without a sample


def seed_all(*key: int) -> None:
    """Seed Python, NumPy and torch (CPU and GPU) with numbers derived from ``key``."""
    for_python, for_numpy, for_torch = np.random.SeedSequence(key).generate_state(3).tolist()
    random.seed(for_python)
    np.random.seed(for_numpy)
    torch.manual_seed(for_torch)


def evenly(items: Sequence[T], fraction: float) -> list[T]:
    """Return a fraction (0 to 1) of the items, evenly spaced, at least one; always the same ones."""
    assert 0 < fraction <= 1, fraction
    count = min(len(items), max(1, round(len(items) * fraction)))
    return [items[i * len(items) // count] for i in range(count)]


class Samples(Dataset[Any]):
    """Mapped records. The error of a record that cannot be used is returned in place of its sample.

    A worker process that raised it would bury its one line in tracebacks; :class:`CheckedLoader` raises it.

    Args:
        records: detectron2's dataset dicts.
        mapper: from a record to a sample.
    """

    def __init__(self, records: Sequence[dict[str, Any]], mapper: Callable[[dict[str, Any]], Any]) -> None:
        self.records = DatasetFromList(list(records), copy=False)
        self.mapper = mapper

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.mapper(self.records[index])
        except (DatasetError, ImageReadError, SizeMismatchError, OSError) as error:
            return DatasetError(" ".join(str(error).split()))


class CheckedLoader(DataLoader[Any]):
    """A loader of lists of :class:`Samples` that raises the errors among them."""

    def __iter__(self) -> Iterator[list[Any]]:  # type: ignore[override]
        for batch in super().__iter__():
            for sample in batch:
                if isinstance(sample, DatasetError):
                    raise sample
            yield batch


class _SeededSamples(Samples):
    """Samples of draws: (index of a record, numbers that seed its augmentation).

    An item is a sample and the errors of records that it replaces. The sample is an error if all records
    tried have none.
    """

    def __getitem__(self, draw: tuple[int, tuple[int, ...]]) -> tuple[Any, list[DatasetError]]:  # type: ignore[override]
        index, key = draw
        seed_all(*key)
        errors = []
        for _ in range(_REPLACEMENTS):
            sample = super().__getitem__(index)
            if isinstance(sample, DatasetError):
                errors.append(sample)
            elif sample is not None:
                return sample, errors
            index = int(np.random.randint(len(self)))
        wanted = "DATASETS.TRAIN: expected images that give a sample"
        found = f"found none in {_REPLACEMENTS} draws from {len(self)} images"
        return DatasetError(f"{wanted}, {found}" + (f" ({errors[-1]})" if errors else "")), errors


class TrainingBatches(Iterable[list[Any]]):
    """Endless batches of augmented training images for this process.

    Set ``seed`` and ``start`` before the first batch is taken.

    Args:
        records: detectron2's dataset dicts.
        mapper: from a record to a sample, or None if it has none; its random numbers come from the global
            generators.
        sampler: from a seed to the endless indices of this process.
        batch_size: images per batch of this process.
        num_workers: processes that read images; the batches do not depend on it.
        group_by_aspect: put only wide, or only high, images into a batch, as detectron2 does.
        max_unreadable: share of the records that may be unreadable; others take their place.

    Attributes:
        seed: of the order of the images and of their augmentation.
        start: number of the first batch.
    """

    def __init__(
        self,
        records: Sequence[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], Any],
        sampler: Callable[[int], Iterable[int]],
        *,
        batch_size: int,
        num_workers: int = 0,
        group_by_aspect: bool = False,
        max_unreadable: float = 0.0,
    ) -> None:
        self.samples = _SeededSamples(records, mapper)
        self.sampler = sampler
        self.batch_size = batch_size
        self.num_workers = num_workers
        wide = (record.get("width", 0) > record.get("height", 0) for record in records)
        self.groups = [group_by_aspect and is_wide for is_wide in wide]
        self.max_unreadable = max_unreadable
        self.seed, self.start = 0, 0
        self._unreadable: set[str] = set()

    def __iter__(self) -> Iterator[list[Any]]:
        loader = DataLoader(
            self.samples,
            batch_sampler=islice(self._draws(), self.start, None),
            num_workers=self.num_workers,
            collate_fn=list,
            worker_init_fn=exit_with_parent,
            generator=torch.Generator(),  # otherwise the loader takes a number from the global one
        )
        for batch in loader:
            for sample, errors in batch:
                for error in errors:
                    self._count(error)
                if isinstance(sample, DatasetError):
                    raise sample
            yield [sample for sample, _ in batch]

    def _draws(self) -> Iterator[list[tuple[int, tuple[int, ...]]]]:
        """Yield the draws of each batch, from the first one."""
        batches: dict[bool, list[tuple[int, tuple[int, ...]]]] = {False: [], True: []}
        rank, size = comm.get_rank(), comm.get_world_size()
        for position, index in enumerate(self.sampler(self.seed)):
            batch = batches[self.groups[index]]
            batch.append((int(index), (self.seed, position * size + rank)))
            if len(batch) == self.batch_size:
                yield batch.copy()
                batch.clear()

    def _count(self, error: DatasetError) -> None:
        """Report an unreadable image once; raise if there are too many."""
        line = str(error)
        if line in self._unreadable:
            return
        self._unreadable.add(line)
        found, total = len(self._unreadable), len(self.samples)
        if found > self.max_unreadable * total:
            allowed = f"DATALOADER.MAX_UNREADABLE {self.max_unreadable:g}"
            raise DatasetError(f"{line} ({found} of {total} images cannot be used, {allowed})")
        logger.warning("%s; another image takes its place", line)


def train_loader(cfg: CfgNode, mapper: Any, records: list[dict[str, Any]] | None = None) -> TrainingBatches:
    """Return batches as ``cfg.DATALOADER`` and ``SOLVER.IMS_PER_BATCH`` describe them.

    Args:
        cfg: the configuration.
        mapper: from a record to a sample; see :class:`TrainingBatches`.
        records: the images; default: ``DATASETS.TRAIN_FRACTION`` of ``DATASETS.TRAIN``.
    """
    node = cfg.DATALOADER
    if records is None:
        every = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=node.FILTER_EMPTY_ANNOTATIONS)
        records = evenly(every, float(cfg.DATASETS.TRAIN_FRACTION))
        logger.info("Training on %d of %d images (DATASETS.TRAIN_FRACTION)", len(records), len(every))
    if (copy_paste := getattr(mapper, "copy_paste", None)) is not None:
        copy_paste.set_donors(records)
    return TrainingBatches(
        records,
        mapper,
        _sampler(cfg, records),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        num_workers=node.NUM_WORKERS,
        group_by_aspect=node.ASPECT_RATIO_GROUPING,
        max_unreadable=node.MAX_UNREADABLE,
    )


def _sampler(cfg: CfgNode, records: list[dict[str, Any]]) -> Callable[[int], Iterable[int]]:
    """Return a function from a seed to the sampler ``DATALOADER.SAMPLER_TRAIN``, detectron2's or ours."""
    node, count = cfg.DATALOADER, len(records)
    if node.SAMPLER_TRAIN == "RepeatFactorTrainingSampler":
        repeats = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency
        factors = repeats(records, node.REPEAT_THRESHOLD)
        return lambda seed: RepeatFactorTrainingSampler(factors, seed=seed)
    if node.SAMPLER_TRAIN == "RandomSubsetTrainingSampler":
        ratio = node.RANDOM_SUBSET_RATIO
        return lambda seed: RandomSubsetTrainingSampler(count, ratio, seed_shuffle=seed, seed_subset=seed)
    if node.SAMPLER_TRAIN == "ShardTrainingSampler":
        files = [record["file_name"] for record in records]
        return lambda seed: ShardTrainingSampler(files, seed)
    return lambda seed: TrainingSampler(count, seed=seed)
