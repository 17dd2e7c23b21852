"""The result of one metric on one image."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Status = Literal["counted", "skipped", "nan_as_0"]


class Score(NamedTuple):
    """One metric value of one image.

    Attributes:
        value: the metric; None unless ``status`` is "counted".
        status: "counted" (the value enters the mean), "skipped" (the image enters neither the sum
            nor the count) or "nan_as_0" (undefined, adds 0 to the sum and 1 to the count, as some
            published implementations do).
        reason: why the image is not counted; empty when it is.
    """

    value: float | None
    status: Status
    reason: str


def counted(value: float) -> Score:
    """A defined value."""
    return Score(float(value), "counted", "")


def skipped(reason: str) -> Score:
    """An image that is left out."""
    return Score(None, "skipped", reason)


def nan_as_0(reason: str) -> Score:
    """An undefined value that the published definition averages as 0."""
    return Score(None, "nan_as_0", reason)


def counted_or_nan_as_0(value: float, reason: str) -> Score:
    """``counted(value)``, or ``nan_as_0(reason)`` where the value is NaN."""
    return nan_as_0(reason) if math.isnan(value) else counted(value)


def counted_or_skipped(value: float, reason: str) -> Score:
    """``counted(value)``, or ``skipped(reason)`` where the value is NaN."""
    return skipped(reason) if math.isnan(value) else counted(value)
