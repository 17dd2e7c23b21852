"""The result of one metric on one image, and the mean over images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
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


def mean_score(scores: Sequence[Score]) -> dict[str, Any]:
    """Average the scores of images.

    The sum is exact, so neither the order of the images nor the number of processes changes the result.

    Returns:
        ``value`` (None without images), ``counted``, ``skipped``, ``nan_as_0``, ``images``, and
        ``reasons`` {why not counted: number of images}.
    """
    found = Counter(score.status for score in scores)
    total = math.fsum(score.value for score in scores if score.value is not None)
    count = found["counted"] + found["nan_as_0"]
    reasons = Counter(score.reason for score in scores if score.reason)
    return {
        "value": total / count if count else None,
        **{status: found[status] for status in ("counted", "skipped", "nan_as_0")},
        "images": len(scores),
        "reasons": dict(sorted(reasons.items())),
    }
