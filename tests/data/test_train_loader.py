from __future__ import annotations

import logging
import random
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from sor_ppa.data import DatasetError
from sor_ppa.data.train_loader import CheckedLoader, Samples, TrainingBatches, evenly, train_loader
from tests.models import make_cfg

RECORDS = [{"file_name": f"{i}.jpg", "width": 2 + i % 3, "height": 3} for i in range(7)]


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(40, 0.1, [0, 10, 20, 30]), (3, 1.0, [0, 1, 2]), (3, 0.001, [0]), (0, 0.5, [])],
)
def test_a_fraction_is_evenly_spaced(count: int, fraction: float, expected: list[int]) -> None:
    assert evenly(list(range(count)), fraction) == expected


def draw(record: dict[str, Any]) -> tuple[Any, ...]:
    """A sample that shows every random number that an augmentation may use."""
    return record["file_name"], record["width"], random.random(), np.random.rand(), torch.rand(1).item()


def batches(mapper: Any = draw, records: Any = RECORDS, start: int = 0, **options: Any) -> TrainingBatches:
    keys = {"SOLVER__IMS_PER_BATCH": 2, "DATALOADER__NUM_WORKERS": 0, "SOLVER__MAX_ITER": 4} | options
    loader = train_loader(make_cfg(None, **keys), mapper, list(records))
    loader.seed, loader.start = 5, start
    return loader


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_from_any_start_and_with_any_workers(sampler: str, workers: int) -> None:
    records = [record | {"annotations": [{"category_id": 0}]} for record in RECORDS]
    options: dict[str, Any] = {"DATALOADER__SAMPLER_TRAIN": sampler}
    whole = list(islice(batches(records=records, **options), 9))
    options["DATALOADER__NUM_WORKERS"] = workers
    assert list(islice(batches(records=records, start=4, **options), 5)) == whole[4:]
    assert len({sample for batch in whole for sample in batch}) == 18  # each draw is augmented anew


def test_the_seed_decides() -> None:
    first, second = batches(), batches()
    second.seed = 6
    assert next(iter(first)) != next(iter(second))


def test_wide_and_high_images_do_not_meet() -> None:
    found = list(islice(batches(), 20))
    assert all((a[1] > 3) == (b[1] > 3) for a, b in found)
    mixed = list(islice(batches(DATALOADER__ASPECT_RATIO_GROUPING=False), 20))
    assert any((a[1] > 3) != (b[1] > 3) for a, b in mixed)


def refuse(*names: str) -> Any:
    """A mapper that cannot read some images."""

    def mapper(record: dict[str, Any]) -> Any:
        if record["file_name"] in names:
            raise DatasetError(f"{record['file_name']}: expected an image, found none")
        return draw(record)

    return mapper


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_replaced_and_named_once(
    workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"DATALOADER__MAX_UNREADABLE": 0.2, "DATALOADER__NUM_WORKERS": workers}
    with caplog.at_level(logging.WARNING):
        found = list(islice(batches(refuse("3.jpg"), **options), 12))
    assert all(len(batch) == 2 for batch in found)
    assert "3.jpg" not in {sample[0] for batch in found for sample in batch}
    assert [m for m in caplog.messages if "3.jpg" in m] == [
        "3.jpg: expected an image, found none; another image takes its place"
    ]


@pytest.mark.parametrize(("share", "names"), [(0.0, ["3.jpg"]), (0.2, ["3.jpg", "4.jpg"])])
@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_images_are_one_line(share: float, names: list[str], workers: int) -> None:
    options = {"DATALOADER__MAX_UNREADABLE": share, "DATALOADER__NUM_WORKERS": workers}
    with pytest.raises(DatasetError) as raised:
        list(islice(batches(refuse(*names), **options), 12))
    allowed = rf"\({len(names)} of 7 images cannot be used, DATALOADER\.MAX_UNREADABLE {share:g}\)"
    raised.match(rf"^[34]\.jpg: expected an image, found none {allowed}$")


def test_images_without_any_sample_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"DATASETS\.TRAIN: expected images that give a sample"):
        next(iter(batches(lambda record: None)))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_test_image_is_one_line(workers: int) -> None:
    loader = CheckedLoader(Samples(RECORDS, refuse("3.jpg")), num_workers=workers, collate_fn=list)
    with pytest.raises(DatasetError, match=r"^3\.jpg: expected an image, found none$"):
        list(loader)
