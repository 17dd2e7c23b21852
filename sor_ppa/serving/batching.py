"""Ranking pictures of many clients: one thread calls the models, with batches formed from what waits."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..predictor import SORPredictor
from ..results import RankedImage
from .errors import RequestRefused
from .limits import Limits

__all__ = ["BatchingRanker"]

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


@dataclass(eq=False)
class _Job:
    model: str
    read: Callable[[], NDArray[np.uint8]]
    pixels: int
    answer: Callable[[RankedImage], Any]
    future: Future[Any] = field(default_factory=Future)


class BatchingRanker:
    """Ranks pictures in a thread of its own.

    Pictures wait undecoded in a bounded queue. Those of one model that arrive within ``batch_seconds`` go to
    the predictor together, which groups them by padded size, so no picture's result depends on the others.
    A failing batch is repeated one by one, so that only its cause fails.

    Args:
        load: returns the predictor of a model; called in the thread.
        limits: see :class:`Limits`.
    """

    def __init__(self, load: Callable[[str], SORPredictor], limits: Limits) -> None:
        self._load, self._limits = load, limits
        self._models: OrderedDict[str, SORPredictor] = OrderedDict()  # the last used at the end
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._seconds = 1.0  # mean time of a picture
        self.pictures = self.batches = 0
        self._thread = threading.Thread(target=self._work, name="ranker", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of pictures that wait."""
        return len(self._jobs)

    @property
    def loaded(self) -> list[str]:
        """Names of the models in memory."""
        return list(self._models)

    async def rank(
        self,
        model: str,
        read: Callable[[], NDArray[np.uint8]],
        pixels: int,
        answer: Callable[[RankedImage], _Answer],
    ) -> _Answer:
        """Rank a picture and return what ``answer`` makes of the result.

        Args:
            model: its name.
            read: returns the picture, (H, W, 3) uint8 BGR; called in the thread when its turn has come.
            pixels: number of its pixels.
            answer: called in the thread, so that masks are not kept longer than a batch.

        Raises:
            RequestRefused: too many pictures wait (429), or the answer took too long (503).
        """
        job = _Job(model, read, pixels, answer)
        with self._changed:
            if len(self._jobs) >= self._limits.waiting:
                after = max(1, math.ceil(len(self._jobs) * self._seconds))
                sentence = (
                    f"expected at most {self._limits.waiting} waiting pictures, found as many; try later"
                )
                raise RequestRefused(429, sentence, retry_after=min(after, 60))
            self._jobs.append(job)
            self._changed.notify()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.future), self._limits.answer_seconds)
        except asyncio.TimeoutError:
            sentence = f"expected an answer within {self._limits.answer_seconds:g} s, found none; try later"
            raise RequestRefused(503, sentence, retry_after=10) from None

    def close(self) -> None:
        """End the thread after the batch in work; what waits is cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        for job in self._jobs:
            job.future.cancel()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._jobs)
                if self._closed:
                    return
            time.sleep(self._limits.batch_seconds)
            jobs = [job for job in self._next_batch() if job.future.set_running_or_notify_cancel()]
            if jobs:
                self._run(jobs)

    def _next_batch(self) -> list[_Job]:
        """Remove the first job and those that fit to it from the queue."""
        with self._changed:
            batch = [self._jobs.popleft()]
            predictor = self._models.get(batch[0].model)
            most = predictor.batch_size if predictor else 1
            for job in list(self._jobs):
                if len(batch) >= most:
                    break
                total = sum(other.pixels for other in batch) + job.pixels
                if job.model == batch[0].model and total <= self._limits.pixels:
                    batch.append(job)
                    self._jobs.remove(job)
            return batch

    def _run(self, jobs: list[_Job]) -> None:
        start = time.perf_counter()
        try:
            predictor = self._predictor(jobs[0].model)
            results = predictor([job.read() for job in jobs])
            answers = [job.answer(result) for job, result in zip(jobs, results, strict=True)]
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].future.set_exception(error)
                return
            for job in jobs:
                self._run([job])
            return
        self.pictures += len(jobs)
        self.batches += 1
        self._seconds += 0.2 * ((time.perf_counter() - start) / len(jobs) - self._seconds)
        for job, answer in zip(jobs, answers, strict=True):
            job.future.set_result(answer)

    def _predictor(self, name: str) -> SORPredictor:
        if name not in self._models:
            while len(self._models) >= self._limits.models:
                self._models.popitem(last=False)
            _log.info("loading %s", name)
            self._models[name] = self._load(name)
        self._models.move_to_end(name)
        return self._models[name]
