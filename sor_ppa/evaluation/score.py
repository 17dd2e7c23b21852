"""The result of one metric on one image, and the mean over images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple

Status = Literal["counted", "skipped", "nan_as_0"]


class Score(NamedTuple):
    """One metric value of one image.

    Attributes:
        value: the metric; None unless ``status`` is "counted".
        status: "counted" (the value enters the mean), "skipped" (the image enters neither the sum
            nor the count) or "nan_as_0" (undefined; adds 0 to the sum and 1 to the count, as some
            published implementations do).
        reason: why the image is not counted; empty if it is.
    """

    value: float | None
    status: Status
    reason: str


def counted(value: float) -> Score:
    """Return the score of a defined value."""
    return Score(float(value), "counted", "")


def skipped(reason: str) -> Score:
    """Return the score of an image that is left out."""
    return Score(None, "skipped", reason)


def nan_as_0(reason: str) -> Score:
    """Return the score of an undefined value that the published definition averages as 0."""
    return Score(None, "nan_as_0", reason)


def counted_or(undefined: Callable[[str], Score], value: float, reason: str) -> Score:
    """Return ``counted(value)``, or ``undefined(reason)`` for NaN."""
    return undefined(reason) if math.isnan(value) else counted(value)


class ScoreMean:
    """The mean of the scores of images, without the scores.

    The sum is exact, so neither the order of the images nor the number of processes changes the result.
    """

    def __init__(self) -> None:
        self._sum = Fraction(0)
        self._statuses: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()

    def add(self, score: Score) -> None:
        """Add the score of an image."""
        self._statuses[score.status] += 1
        if score.value is not None:
            self._sum += Fraction(score.value)
        if score.reason:
            self._reasons[score.reason] += 1

    def merge(self, other: ScoreMean) -> None:
        """Add the images of another mean."""
        self._sum += other._sum
        self._statuses += other._statuses
        self._reasons += other._reasons

    def result(self) -> dict[str, Any]:
        """Return the mean.

        Returns:
            ``value`` (None without images), ``counted``, ``skipped``, ``nan_as_0``, ``images``, and
            ``reasons`` {why not counted: number of images}.
        """
        count = self._statuses["counted"] + self._statuses["nan_as_0"]
        return {
            "value": float(self._sum) / count if count else None,
            **{status: self._statuses[status] for status in ("counted", "skipped", "nan_as_0")},
            "images": self._statuses.total(),
            "reasons": dict(sorted(self._reasons.items())),
        }

    def state(self) -> list[Any]:
        """Return everything as JSON-able values."""
        return [*self._sum.as_integer_ratio(), self._statuses, self._reasons]

    @classmethod
    def from_state(cls, state: Sequence[Any]) -> ScoreMean:
        """Restore a mean from its ``state``."""
        mean = cls()
        numerator, denominator, statuses, reasons = state
        mean._sum = Fraction(numerator, denominator)
        mean._statuses, mean._reasons = Counter(statuses), Counter(reasons)
        return mean
