"""One image of a comparison: every method, definition and confidence threshold from the same overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from .checks import SizeError
from .command import Problem, Record, instance_image, read_sized_map
from .definitions import METRICS
from .ground_truth import ImageTruth, truth_from_dict
from .image import FloatArray, ImageScores
from .predictions import InstanceEntry
from .rules.sa_sor import match_best
from .score import Score
from .variants import DEFAULT_METRICS, DEFAULTS, PUBLISHED, Variant, find_variant

__all__ = [
    "HEADLINE",
    "THRESHOLDS",
    "VARIANTS",
    "Measured",
    "Prediction",
    "Setup",
    "VariantKey",
    "measure_image",
]

Prediction = Path | list[InstanceEntry] | None
VariantKey = tuple[str, str]
HEADLINE: tuple[VariantKey, ...] = tuple((metric, DEFAULTS[metric]) for metric in DEFAULT_METRICS)
"""The variants with curves, groups and pictures."""
VARIANTS: tuple[VariantKey, ...] = tuple((metric, name) for metric in METRICS for name in PUBLISHED[metric])
THRESHOLDS = np.arange(20) / 20
_HEADLINE_PLACES = [VARIANTS.index(key) for key in HEADLINE]
_HEADLINE_VARIANTS = [find_variant(*key) for key in HEADLINE]


class Setup(NamedTuple):
    """How a method is measured.

    Attributes:
        kind: as of its ``SavedPredictions``.
        skip: leave out images without a prediction.
        curves: whether its confidences are in [0, 1], so that there are curves over them.
    """

    kind: str
    skip: bool
    curves: bool


class Measured(NamedTuple):
    """One method on one image.

    Attributes:
        values: (V,) of ``VARIANTS``, NaN where the image is not used.
        curve: (H, T) of ``HEADLINE`` at ``THRESHOLDS``, NaN without curves.
        found: (P, 2) confidence, and whether the prediction is the match of an object (IoU >= 0.5), P = 0
            without curves.
        first: (P, 2) probability of being the most salient, and whether it is.
    """

    values: FloatArray
    curve: FloatArray
    found: FloatArray
    first: FloatArray


def measure_image(
    task: tuple[Record, list[Prediction]], *, methods: Sequence[Setup]
) -> tuple[list[Measured], FloatArray, list[list[Problem]]]:
    """Return each method on one image, the traits of the image, and the problems of each method."""
    record, predictions = task
    problems: list[list[Problem]] = [[] for _ in methods]
    try:
        truth = truth_from_dict(record)
    except ValueError as error:
        for own in problems:
            own.append(("bad ground truth", str(error)))
        return [_unused() for _ in methods], np.zeros(3), problems
    measured = []
    for prediction, setup, own in zip(predictions, methods, problems, strict=True):
        measured.append(_unused())
        if prediction is None and setup.skip:
            continue
        try:
            if setup.kind == "maps":
                measured[-1] = _of_map(prediction, truth)
            else:
                measured[-1] = _of_instances(prediction, truth, setup.curves)
        except (ValueError, OSError) as error:
            bad = "bad prediction" if setup.kind == "instances" else "unreadable prediction"
            own.append(("wrong size" if isinstance(error, SizeError) else bad, str(error)))
    return measured, _traits(truth), problems


def _unused() -> Measured:
    events = np.zeros((0, 2))
    nothing = np.full((len(HEADLINE), len(THRESHOLDS)), np.nan)
    return Measured(np.full(len(VARIANTS), np.nan), nothing, events, events)


def _of_map(path: Any, truth: ImageTruth) -> Measured:
    gray = read_sized_map(path, truth.name, truth.size)
    image = ImageScores.from_map(truth.ranked_masks(), truth.dense_ranks, gray)
    return _unused()._replace(values=_score_variants(image))


def _of_instances(prediction: Any, truth: ImageTruth, curves: bool) -> Measured:
    instances: list[InstanceEntry] = prediction or []
    image = instance_image(instances, truth)
    ranks = image.gt_ranks.tolist()
    matched = match_best(image.iou.tolist(), 0.5, image.scores.tolist(), ranks)
    top = {place for place, rank in zip(matched, ranks, strict=True) if rank == max(ranks)}
    first = [
        [item.first, float(place in top)] for place, item in enumerate(instances) if item.first is not None
    ]
    values = _score_variants(image)
    measured = _unused()._replace(values=values, first=np.array(first, np.float64).reshape(-1, 2))
    if not curves:
        return measured
    confidences = np.array([item.confidence for item in instances], np.float64).clip(max=1.0)
    found = [place in matched for place in range(len(instances))]
    curve = _threshold_curve(image, confidences, values)
    return measured._replace(curve=curve, found=np.stack([confidences, found], axis=1))


def _score_variants(image: ImageScores) -> FloatArray:
    """Return the values (V,) of ``VARIANTS``; definitions that are the same are computed once."""
    distinct, places = _distinct_variants(image.is_map)
    values = [_number(variant.rule.score(image, variant.painter)) for variant in distinct]
    return np.array([*values, np.nan])[places]


@cache
def _distinct_variants(on_map: bool) -> tuple[list[Variant], NDArray[np.int64]]:
    """Return the different definitions, and the place of each of ``VARIANTS`` among them, -1 = undefined.

    A map is painted already: each rule is applied to it as given, and stands at the rule's own painter. Saved
    masks are binary, so > 0.5 and >= 0.5 (``strict``) are the same.
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
        options = [item for item in rule.options.items() if item[0] != "strict"]
        keys.append((rule.function, rule.no_gt, variant.painter, *options))
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
