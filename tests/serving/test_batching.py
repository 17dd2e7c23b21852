"""Pictures of many clients in one thread."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sor_ppa.results import RankedImage
from sor_ppa.serving.batching import BatchingRanker
from sor_ppa.serving.limits import Limits
from tests.fake_model import FakeModel, fake_predictor, picture

LIMITS = Limits(batch_seconds=0.05, pixels=4 * 4800, models=1)


@pytest.fixture
def model() -> FakeModel:
    return FakeModel()


@pytest.fixture
def ranker(model: FakeModel) -> Iterator[BatchingRanker]:
    ranker = BatchingRanker(lambda name: fake_predictor(model), LIMITS)
    yield ranker
    ranker.close()


def whole(result: RankedImage) -> dict[str, Any]:
    return result.to_json()


def rank(ranker: BatchingRanker, *pictures: NDArray[np.uint8], model: str = "a") -> list[Any]:
    async def every() -> list[Any]:
        jobs = (ranker.rank(model, lambda p=p: p, p.shape[0] * p.shape[1], whole) for p in pictures)  # type: ignore[misc]
        return await asyncio.gather(*jobs, return_exceptions=True)

    return asyncio.run(every())


def test_pictures_that_arrive_together_share_a_batch(ranker: BatchingRanker, model: FakeModel) -> None:
    rank(ranker, picture())  # loads the model
    pictures = [picture(seed=i) for i in range(4)]
    assert rank(ranker, *pictures) == [fake_predictor()(p).to_json() for p in pictures]
    assert [len(batch) for batch in model.batches] == [1, 4]


def test_a_batch_has_as_many_pixels_as_one_picture_may_have(ranker: BatchingRanker, model: FakeModel) -> None:
    rank(ranker, picture())
    rank(ranker, picture(120, 160), picture(), picture())
    assert ranker.batches == 3


def test_a_picture_that_fails_fails_alone(ranker: BatchingRanker) -> None:
    rank(ranker, picture())
    good, bad = picture(), np.zeros((60, 80), np.uint8)
    found = rank(ranker, good, bad, good)
    assert found[0] == found[2] == fake_predictor()(good).to_json()
    assert isinstance(found[1], ValueError)


def test_few_models_stay_in_memory(ranker: BatchingRanker) -> None:
    rank(ranker, picture())
    rank(ranker, picture(), model="b")
    assert ranker.loaded == ["b"]
