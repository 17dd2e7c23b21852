"""Whether probabilities mean what they say: reliability curves and expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .checks import check_numbers, expect

__all__ = ["Reliability", "reliability"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Probabilities beside how often they came true, in bins of equal width.

    Attributes:
        counts: (B,) events in each bin.
        predicted: (B,) mean probability, NaN for an empty bin.
        observed: (B,) share that came true, NaN for an empty bin.
    """

    counts: NDArray[np.int64]
    predicted: FloatArray
    observed: FloatArray

    @property
    def error(self) -> float:
        """Expected calibration error: mean |observed - predicted| over events (Guo et al., ICML 2017)."""
        gap = np.abs(self.observed - self.predicted)
        return float(np.nansum(gap * self.counts) / max(1, self.counts.sum()))

    def to_json(self) -> dict[str, Any]:
        """Return what ``write_nullable_json`` takes."""
        curves = {"predicted": self.predicted.tolist(), "observed": self.observed.tolist()}
        return {"ece": self.error, "events": int(self.counts.sum()), "counts": self.counts.tolist(), **curves}


def reliability(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> Reliability:
    """Return the reliability curve of predicted events.

    Args:
        probabilities: (N,) in [0, 1].
        outcomes: (N,) whether each came true, or how often in [0, 1].
        bins: B; a probability on an edge belongs to the upper bin.

    Raises:
        InputError: other shapes or values.
    """
    chance = np.asarray(probabilities, np.float64)
    truth = check_numbers(np.asarray(outcomes, np.float64), len(chance), "outcomes", "probabilities")
    inside = ((chance >= 0) & (chance <= 1)).all()
    expect(
        inside,
        "probabilities",
        "numbers in [0, 1]",
        f"{chance.min(initial=0):g} to {chance.max(initial=0):g}",
    )
    index = np.minimum((chance * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        sums = (np.bincount(index, values, bins) / counts for values in (chance, truth))
        return Reliability(counts, *sums)
