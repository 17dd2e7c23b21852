"""Comparison of any number of methods on one dataset, image by image.

Every image is measured once for every method: all variants and all confidence thresholds come from the same
overlaps. Means, intervals and tests are computed from the table of values.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from .calibration import reliability
from .checks import SizeError, expect
from .command import (
    MISSING,
    Problem,
    Record,
    has_ranks,
    instance_image,
    pair_with_images,
    read_sized_map,
    run_tasks,
)
from .definitions import METRICS
from .ground_truth import ImageTruth, read_truth, truth_from_dict
from .image import ImageScores
from .predictions import InstanceEntry, read_predictions
from .resampling import bootstrap_intervals, holm, sign_flip_p_values
from .rules.sa_sor import match_best
from .score import Score
from .variants import DEFAULT_METRICS, DEFAULTS, PUBLISHED, Variant, find_variant

__all__ = ["HEADLINE", "THRESHOLDS", "Comparison", "Method", "compare_files", "group_of"]

FloatArray = NDArray[np.float64]
Prediction = Path | list[InstanceEntry] | None
VariantKey = tuple[str, str]
HEADLINE: tuple[VariantKey, ...] = tuple((metric, DEFAULTS[metric]) for metric in DEFAULT_METRICS)
"""The variants with curves, groups and pictures."""
VARIANTS: tuple[VariantKey, ...] = tuple((metric, name) for metric in METRICS for name in PUBLISHED[metric])
THRESHOLDS = np.arange(20) / 20
_HEADLINE_PLACES = [VARIANTS.index(key) for key in HEADLINE]
_HEADLINE_VARIANTS = [find_variant(*key) for key in HEADLINE]
_GROUPS: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    "objects": ((2, 3, 4, 5), ("1", "2", "3", "4", "5 or more")),
    "mean size of the objects": ((0.05, 0.15), ("< 5 % of the image", "5 to 15 %", "> 15 %")),
    "largest IoU of two boxes": ((1e-9, 0.1), ("0", "up to 0.1", "> 0.1")),
}


class Method(NamedTuple):
    """A method by its name and where its predictions are, as ``read_predictions`` takes it."""

    name: str
    path: Path


class _Measured(NamedTuple):
    """One method on one image.

    Attributes:
        values: (V,) of ``VARIANTS``, NaN where the image is not used.
        curve: (H, T) of ``HEADLINE`` at ``THRESHOLDS``.
        found: (P, 2) confidence, and whether the prediction is an object (IoU >= 0.5).
        first: (P, 2) probability of being the most salient, and whether it is.
    """

    values: FloatArray
    curve: FloatArray
    found: FloatArray
    first: FloatArray


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
            | {"value": _mean(values), "low": low, "high": high, "images": int((~np.isnan(values)).sum())}
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
        table = np.stack([self.values[a] - self.values[b] for a, b in chosen])  # (pairs, I, V)
        flat = np.concatenate(list(table), axis=1)
        ends = bootstrap_intervals(flat).reshape(2, len(chosen), -1)
        p_values = sign_flip_p_values(flat).reshape(len(chosen), -1)
        corrected = np.stack([holm(column) for column in p_values.T], axis=1)
        return [
            {
                "metric": metric,
                "variant": name,
                "methods": [self.methods[a].name, self.methods[b].name],
                "difference": _mean(table[n, :, v]),
                "low": float(ends[0, n, v]),
                "high": float(ends[1, n, v]),
                "images": int((~np.isnan(table[n, :, v])).sum()),
                "p": float(p_values[n, v]),
                "p_holm": float(corrected[n, v]),
            }
            for v, (metric, name) in enumerate(VARIANTS)
            for n, (a, b) in enumerate(chosen)
        ]

    def threshold_curves(self) -> list[dict[str, Any]]:
        """Return the means over confidence thresholds, and the best one, tuned on the test images."""
        results = []
        for m, method in enumerate(self.methods):
            for h, (metric, name) in enumerate(HEADLINE):
                curve = self.curves[m, :, h]  # (I, T)
                used = ~np.isnan(curve)
                if not used.any():
                    continue
                with np.errstate(invalid="ignore"):
                    means = np.nansum(curve, axis=0) / used.sum(axis=0)
                best = int((np.nanargmax if METRICS[metric].higher_is_better else np.nanargmin)(means))
                entry = {"method": method.name, "metric": metric, "variant": name}
                entry |= {"thresholds": THRESHOLDS.tolist(), "values": means.tolist()}
                entry |= {"images": used.sum(axis=0).tolist(), "tuned_on_test": float(THRESHOLDS[best])}
                results.append(entry | {"tuned_on_test_value": float(means[best])})
        return results

    def groups(self) -> list[dict[str, Any]]:
        """Return the means of groups of images: by number of objects, size and overlap."""
        results = []
        for place, (trait, (_, labels)) in enumerate(_GROUPS.items()):
            group = group_of(trait, self.traits[:, place])
            group[self.traits[:, 0] < 1] = -1  # images without objects
            for number, label in enumerate(labels):
                rows = np.flatnonzero(group == number)
                for metric, name in HEADLINE if len(rows) else ():
                    values = self.column((metric, name))[:, rows]
                    low, high = bootstrap_intervals(values.T)
                    results += [
                        {"trait": trait, "group": label, "metric": metric, "variant": name}
                        | {"method": method.name, "value": _mean(values[m]), "low": float(low[m])}
                        | {"high": float(high[m]), "images": int((~np.isnan(values[m])).sum())}
                        for m, method in enumerate(self.methods)
                    ]
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


def group_of(trait: str, values: FloatArray) -> NDArray[np.int64]:
    """Return the group (N,) of images by the values (N,) of a trait of ``_GROUPS``."""
    return np.searchsorted(np.array(_GROUPS[trait][0]), values, side="right")


def compare_files(
    methods: Sequence[Method],
    truth: str,
    *,
    missing: str = "auto",
    workers: int = 1,
    progress: bool = False,
) -> Comparison:
    """Measure the predictions of methods on a dataset.

    Args:
        methods: with different names.
        truth: as for ``ground_truth.read_truth``.
        missing: of images without a prediction, as for ``command.score_files``.
        workers: processes.
        progress: show a progress bar on stderr.

    Raises:
        InputError, ValueError: unusable input, in one line.
    """
    records = read_truth(truth)
    ranked = "mask_file_name" not in records[0] and has_ranks(records)
    expect(ranked, truth, "a dataset of objects with ranks", "no rank")
    kinds, columns, skipped, problems = [], [], [], []
    for method in methods:
        read = read_predictions(method.path)
        pairs, found = pair_with_images(records, read, str(method.path))
        kinds.append(read.kind)
        columns.append([prediction for _, prediction in pairs])
        skipped.append(missing == "skip" or (missing == "auto" and read.kind == "maps"))
        problems.append(found)
    tasks = [(record, list(row)) for record, row in zip(records, zip(*columns, strict=True), strict=True)]
    measure = partial(_measure, kinds=kinds, skipped=skipped)
    measured, traits = [], []
    for row, trait, lines in run_tasks(measure, tasks, workers, progress):
        measured.append(row)
        traits.append(trait)
        for own, more in zip(problems, lines, strict=True):
            own += more
    by_method = list(zip(*measured, strict=True))
    return Comparison(
        truth,
        list(methods),
        kinds,
        [str(record["file_name"]) for record in records],
        np.array([[x.values for x in own] for own in by_method]),
        np.array(traits),
        np.array([[x.curve for x in own] for own in by_method]),
        [np.concatenate([x.found for x in own]) for own in by_method],
        [np.concatenate([x.first for x in own]) for own in by_method],
        problems,
        tasks,
    )


def _measure(
    task: tuple[Record, list[Prediction]], *, kinds: Sequence[str], skipped: Sequence[bool]
) -> tuple[list[_Measured], FloatArray, list[list[Problem]]]:
    """Return each method on one image, the traits of the image, and the problems of each method."""
    record, predictions = task
    problems: list[list[Problem]] = [[] for _ in kinds]
    try:
        truth = truth_from_dict(record)
    except ValueError as error:
        for own in problems:
            own.append(("bad ground truth", str(error)))
        return [_unused() for _ in kinds], np.zeros(3), problems
    measured = []
    for prediction, kind, skip, own in zip(predictions, kinds, skipped, problems, strict=True):
        measured.append(_unused())
        if prediction is None and skip:
            continue
        try:
            measured[-1] = _of_map(prediction, truth) if kind == "maps" else _of_instances(prediction, truth)
        except (ValueError, OSError) as error:
            bad = "bad prediction" if kind == "instances" else "unreadable prediction"
            own.append(("wrong size" if isinstance(error, SizeError) else bad, str(error)))
    return measured, _traits(truth), problems


def _unused() -> _Measured:
    events = np.zeros((0, 2))
    nothing = np.full((len(HEADLINE), len(THRESHOLDS)), np.nan)
    return _Measured(np.full(len(VARIANTS), np.nan), nothing, events, events)


def _of_map(path: Any, truth: ImageTruth) -> _Measured:
    gray = read_sized_map(path, truth.name, truth.size)
    image = ImageScores.from_map(truth.ranked_masks(), truth.dense_ranks, gray)
    return _unused()._replace(values=_score_variants(image))


def _of_instances(prediction: Any, truth: ImageTruth) -> _Measured:
    instances: list[InstanceEntry] = prediction or []
    image = instance_image(instances, truth)
    confidences = np.array([item.confidence for item in instances], np.float64)
    matched = match_best(image.iou, 0.5, image.scores, image.gt_ranks)
    top = matched[image.gt_ranks == image.gt_ranks.max(initial=0)]
    first = [
        [item.first, float(place in top)]
        for place, item in enumerate(instances)
        if item.first is not None and 0 <= item.first <= 1
    ]
    values = _score_variants(image)
    measured = _unused()._replace(values=values, first=np.array(first, np.float64).reshape(-1, 2))
    if not ((confidences >= 0) & (confidences <= 1)).all():
        return measured
    found = np.isin(np.arange(len(instances)), matched)
    curve = _threshold_curve(image, confidences, values)
    return measured._replace(curve=curve, found=np.stack([confidences, found], axis=1))


def _score_variants(image: ImageScores) -> FloatArray:
    """Return the values (V,) of ``VARIANTS``; definitions that are the same are computed once."""
    distinct, places = _distinct_variants(image.is_map)
    return np.array([*(_number(variant.score(image)) for variant in distinct), np.nan])[places]


@cache
def _distinct_variants(on_map: bool) -> tuple[list[Variant], NDArray[np.int64]]:
    """Return the different definitions, and the place of each of ``VARIANTS`` among them, -1 = undefined.

    A map is painted already: each rule is applied to it as given, and stands at the rule's own painter.
    """
    found: dict[Any, Variant] = {}
    keys: list[Any] = []
    for metric, name in VARIANTS:
        variant = find_variant(metric, name)
        rule = variant.rule
        if on_map:
            if variant.painter != (rule.maps or ("none",))[0]:
                keys.append(None)
                continue
            variant = find_variant(metric, rule.name, on_map=True)
        keys.append((rule.function, rule.no_gt, variant.painter, *rule.options.items()))
        found.setdefault(keys[-1], variant)
    places = {key: place for place, key in enumerate(found)}
    return list(found.values()), np.array([places.get(key, -1) for key in keys])


def _number(score: Score) -> float:
    if score.status == "skipped":
        return np.nan
    return 0.0 if score.value is None else score.value


def _threshold_curve(image: ImageScores, confidences: FloatArray, values: FloatArray) -> FloatArray:
    """Return (H, T): the headline metrics of the predictions above each threshold.

    ``values`` (V,) of all predictions are those of thresholds that remove nothing.
    """
    kept = confidences > THRESHOLDS[:, None]
    counts = kept.sum(axis=1)
    curve = np.empty((len(HEADLINE), len(THRESHOLDS)))
    for count in set(counts.tolist()):
        rows = counts == count
        if count == image.n_pred:
            curve[:, rows] = values[_HEADLINE_PLACES, None]
        else:
            part = image.with_predictions(kept[rows.argmax()])
            curve[:, rows] = [[_number(variant.score(part))] for variant in _HEADLINE_VARIANTS]
    return curve


def _traits(truth: ImageTruth) -> FloatArray:
    ranked = truth.ranks >= 0
    if not ranked.any():
        return np.zeros(3)
    boxes = truth.boxes[ranked]
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    sides = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    common = sides.clip(min=0).prod(axis=2)
    areas = boxes[:, 2:].prod(axis=1)
    iou = np.triu(common / np.maximum(areas[:, None] + areas - common, 1e-9), 1)
    size = mask_util.area(truth.ranked_rles).mean() / (truth.height * truth.width)
    return np.array([ranked.sum(), size, iou.max()])


def _mean(values: FloatArray) -> float | None:
    """Return the mean of what is used, from the exact sum, as ``RankingScorer`` does."""
    used = values[~np.isnan(values)].tolist()
    return math.fsum(used) / len(used) if used else None
