"""Comparison of any number of methods on one dataset, image by image.

Every image is measured once for every method: all variants and all confidence thresholds come from the same
overlaps. Means, intervals and tests are computed from the table of values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .calibration import reliability
from .checks import expect
from .command import MISSING, Problem, Record, has_ranks, pair_with_images, run_tasks
from .definitions import METRICS
from .ground_truth import read_truth
from .image import FloatArray
from .measure import HEADLINE, THRESHOLDS, VARIANTS, Measured, Prediction, Setup, VariantKey, measure_images
from .predictions import read_predictions
from .resampling import bootstrap_intervals, holm, sign_flip_p_values

__all__ = ["Comparison", "Method", "compare_files"]

_VARIANTS_AT_ONCE = 20  # a table of all pairs and variants may not fit into memory
_GROUPS: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    "objects": ((2, 3, 4, 5), ("1", "2", "3", "4", "5 or more")),
    "mean size of the objects": ((0.05, 0.15), ("< 5 % of the image", "5 to 15 %", "> 15 %")),
    "largest IoU of two boxes": ((1e-9, 0.1), ("0", "up to 0.1", "> 0.1")),
}


class Method(NamedTuple):
    """A method by its name and where its predictions are, as ``read_predictions`` takes it."""

    name: str
    path: Path


@dataclass(slots=True)
class Comparison:
    """The values of M methods in I images, and what follows from them.

    Attributes:
        truth: name of the dataset.
        methods: with ``kinds``, "maps" or "instances" each.
        names: (I,) file names of the images.
        values: (M, I, V) of ``VARIANTS``, NaN where the image is not used.
        traits: (I, 3) of each image: number of objects, their mean share of the image, the largest IoU of
            two boxes.
        curves: (M, I, H, T) of ``HEADLINE`` at ``THRESHOLDS``; NaN for maps and confidences outside [0, 1].
        found, first: for each method, (N, 2) predicted probabilities and whether they came true.
        problems: (kind, line) of each method.
        tasks: dataset dict and predictions of each image.
    """

    truth: str
    methods: list[Method]
    kinds: list[str]
    names: list[str]
    values: FloatArray
    traits: FloatArray
    curves: FloatArray
    found: list[FloatArray]
    first: list[FloatArray]
    problems: list[list[Problem]]
    tasks: list[tuple[Record, list[Prediction]]] = field(repr=False)

    def column(self, key: VariantKey) -> FloatArray:
        """Return the values (M, I) of a variant."""
        return self.values[:, :, VARIANTS.index(key)]

    def missing(self) -> int:
        """Return how many predictions are missing, over all methods."""
        return sum(kind == MISSING for problems in self.problems for kind, _ in problems)

    def without_values(self) -> list[str]:
        """Return the names of methods that no image could be scored for."""
        return [
            method.name
            for method, values in zip(self.methods, self.values, strict=True)
            if np.isnan(values).all()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return all results, as ``write_nullable_json`` takes them."""
        reports = [
            {
                "name": method.name,
                "predictions": str(method.path),
                "kind": kind,
                "problems": dict(Counter(kind for kind, _ in problems)),
                "problem_lines": [f"{kind}: {line}" for kind, line in problems],
                "calibration": {
                    name: reliability(events[:, 0], events[:, 1]).to_json() if len(events) else None
                    for name, events in (("confidence", found), ("first_probability", first))
                },
            }
            for method, kind, problems, found, first in zip(
                self.methods, self.kinds, self.problems, self.found, self.first, strict=True
            )
        ]
        return {
            "truth": self.truth,
            "images": len(self.names),
            "methods": reports,
            "means": self.means(),
            "pairs": self.pairs(),
            "thresholds": self.threshold_curves(),
            "groups": self.groups(),
            "largest_differences": self.largest_differences(20),
        }

    def means(self) -> list[dict[str, Any]]:
        """Return mean, 95 % interval and images used of every variant and method."""
        count = len(self.methods)
        ends = bootstrap_intervals(np.concatenate(list(self.values), axis=1)).reshape(2, count, -1)
        return [
            {"metric": metric, "variant": name, "method": method.name}
            | {"value": _mean(values), "low": low, "high": high, "images": _count(values)}
            for v, (metric, name) in enumerate(VARIANTS)
            for m, method in enumerate(self.methods)
            for values, (low, high) in [(self.values[m, :, v], ends[:, m, v].tolist())]
        ]

    def pairs(self) -> list[dict[str, Any]]:
        """Return every difference of two methods over the images that both use, with tests.

        ``p`` is of a paired permutation test, ``p_holm`` corrected for the pairs of the variant.
        """
        chosen = list(combinations(range(len(self.methods)), 2))
        if not chosen:
            return []
        results: list[dict[str, Any]] = []
        for first in range(0, len(VARIANTS), _VARIANTS_AT_ONCE):
            keys = VARIANTS[first : first + _VARIANTS_AT_ONCE]
            values = self.values[:, :, first : first + len(keys)]
            table = np.concatenate([values[a] - values[b] for a, b in chosen], axis=1)  # (I, pairs * keys)
            low, high = bootstrap_intervals(table).reshape(2, len(chosen), -1)
            p_values = sign_flip_p_values(table).reshape(len(chosen), -1)
            used = (~np.isnan(table)).any(axis=0).reshape(len(chosen), -1)
            corrected = np.ones_like(p_values)
            for v, tested in enumerate(used.T):
                corrected[tested, v] = holm(p_values[tested, v])
            for v, (metric, name) in enumerate(keys):
                for n, (a, b) in enumerate(chosen):
                    differences = table[:, n * len(keys) + v]
                    names = [self.methods[a].name, self.methods[b].name]
                    entry: dict[str, Any] = {"metric": metric, "variant": name, "methods": names}
                    entry |= {"difference": _mean(differences), "low": low[n, v], "high": high[n, v]}
                    entry |= {"images": _count(differences), "p": p_values[n, v], "p_holm": corrected[n, v]}
                    results.append(entry)
        return results

    def threshold_curves(self) -> list[dict[str, Any]]:
        """Return the means over confidence thresholds, and the best one, tuned on the test images."""
        results: list[dict[str, Any]] = []
        for m, method in enumerate(self.methods):
            for h, (metric, name) in enumerate(HEADLINE):
                curve = self.curves[m, :, h]  # (I, T)
                used = ~np.isnan(curve)
                if not used.any():
                    continue
                with np.errstate(invalid="ignore"):
                    means = np.nansum(curve, axis=0) / used.sum(axis=0)
                best = int((np.nanargmax if METRICS[metric].higher_is_better else np.nanargmin)(means))
                entry: dict[str, Any] = {"method": method.name, "metric": metric, "variant": name}
                entry |= {"thresholds": THRESHOLDS.tolist(), "values": means.tolist()}
                entry |= {"images": used.sum(axis=0).tolist(), "tuned_on_test": float(THRESHOLDS[best])}
                results.append(entry | {"tuned_on_test_value": float(means[best])})
        return results

    def groups(self) -> list[dict[str, Any]]:
        """Return the means of groups of images: by number of objects, size and overlap."""
        results: list[dict[str, Any]] = []
        for place, (trait, (_, labels)) in enumerate(_GROUPS.items()):
            group = _group_of(trait, self.traits[:, place])
            group[self.traits[:, 0] < 1] = -1  # images without objects
            for number in np.unique(group[group >= 0]).tolist():
                values = np.concatenate([self.column(key)[:, group == number] for key in HEADLINE])
                low, high = bootstrap_intervals(values.T)
                about = product(HEADLINE, self.methods)
                for row, ((metric, name), method) in enumerate(about):
                    entry: dict[str, Any] = {"trait": trait, "group": labels[number], "metric": metric}
                    entry |= {"variant": name}
                    entry |= {"method": method.name, "value": _mean(values[row]), "low": low[row]}
                    results.append(entry | {"high": high[row], "images": _count(values[row])})
        return results

    def largest_differences(self, count: int) -> list[dict[str, Any]]:
        """Return the images whose values of the first headline metric differ most between methods."""
        values = self.column(HEADLINE[0])
        both = (~np.isnan(values)).sum(axis=0) >= 2
        low, high = (f(values[:, both], axis=0) for f in (np.nanmin, np.nanmax))
        order = np.lexsort((np.flatnonzero(both), low - high))[:count]
        methods = [method.name for method in self.methods]
        return [
            {
                "image": self.names[i],
                "index": int(i),
                "values": dict(zip(methods, values[:, i].tolist(), strict=True)),
            }
            for i in np.flatnonzero(both)[order]
            if np.ptp(values[~np.isnan(values[:, i]), i]) > 0
        ]


def _group_of(trait: str, values: FloatArray) -> NDArray[np.int64]:
    """Return the group (N,) of images by the values (N,) of a trait of ``_GROUPS``."""
    return np.searchsorted(np.array(_GROUPS[trait][0]), values, side="right")


def compare_files(
    methods: Sequence[Method],
    truth: str,
    *,
    rank_by: str = "auto",
    missing: str = "auto",
    workers: int = 1,
    progress: bool = False,
) -> Comparison:
    """Measure the predictions of methods on a dataset.

    Args:
        methods: with different names.
        truth: as for ``ground_truth.read_truth``.
        rank_by: as for ``predictions.read_instances``.
        missing: of images without a prediction, as for ``command.score_files``.
        workers: processes.
        progress: show a progress bar on stderr.

    Raises:
        InputError, ValueError: unusable input, in one line.
    """
    records = read_truth(truth)
    ranked = "mask_file_name" not in records[0] and has_ranks(records)
    expect(ranked, truth, "a dataset of objects with ranks", "no rank")
    setups: list[Setup] = []
    columns: list[list[Prediction]] = []
    problems: list[list[Problem]] = []
    for method in methods:
        read = read_predictions(method.path, rank_by)
        pairs, found = pair_with_images(records, read, str(method.path))
        skip = missing == "skip" or (missing == "auto" and read.kind == "maps")
        setups.append(Setup(read.kind, skip, curves=not read.no_curve))
        columns.append([prediction for _, prediction in pairs])
        problems.append(found + [("no curves over the confidence", read.no_curve)] * bool(read.no_curve))
    tasks = [(record, list(row)) for record, row in zip(records, zip(*columns, strict=True), strict=True)]
    measure = partial(measure_images, methods=setups)
    measured: list[list[Measured]] = []
    traits: list[FloatArray] = []
    for row, trait, lines in run_tasks(measure, tasks, workers, progress):
        measured.append(row)
        traits.append(trait)
        for own, more in zip(problems, lines, strict=True):
            own += more
    by_method = list(zip(*measured, strict=True))
    return Comparison(
        truth,
        list(methods),
        [setup.kind for setup in setups],
        [str(record["file_name"]) for record in records],
        np.array([[x.values for x in own] for own in by_method]),
        np.array(traits),
        np.array([[x.curve for x in own] for own in by_method]),
        [np.concatenate([x.found for x in own]) for own in by_method],
        [np.concatenate([x.first for x in own]) for own in by_method],
        problems,
        tasks,
    )


def _count(values: FloatArray) -> int:
    return int(np.count_nonzero(~np.isnan(values)))


def _mean(values: FloatArray) -> float | None:
    """Return the mean of what is used, from the exact sum, as ``RankingScorer`` does."""
    used = values[~np.isnan(values)].tolist()
    return math.fsum(used) / len(used) if used else None
