"""Images of a comparison: every method, definition and confidence threshold from the same overlaps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from .command import Problem, Record, open_prediction, remember_masks
from .definitions import METRICS
from .ground_truth import ImageTruth, truth_from_dict
from .group import put_into_groups
from .image import FloatArray, ImageRuns, ImageScores, grouped
from .predictions import InstanceEntry
from .rules.sa_sor import iou_lists, match_best
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
    "measure_images",
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


_Part = tuple[NDArray[np.bool_], ImageScores]  # thresholds (T,), and what remains of a prediction at them


def measure_images(
    tasks: Sequence[tuple[Record, list[Prediction]]], *, methods: Sequence[Setup]
) -> list[tuple[list[Measured], FloatArray, list[list[Problem]]]]:
    """Return for each image each method, its traits, and the problems of each method."""
    remember_masks([record for record, _ in tasks], [one for _, predictions in tasks for one in predictions])
    opened = [_open(*task, methods) for task in tasks]
    sources = [source for row, _, _ in opened for source in row]
    built = iter(grouped([source for source in sources if source is not None]))
    images = [None if source is None else next(built) for source in sources]
    given = [pair for _, predictions in tasks for pair in zip(predictions, methods, strict=True)]
    parts = [
        _parts(image) if image and setup.curves else []
        for image, (_, setup) in zip(images, given, strict=True)
    ]
    put_into_groups([part for own in parts for _, part in own])
    measured = [
        _measure(image, prediction, setup.curves, own) if image else _unused()
        for image, (prediction, setup), own in zip(images, given, parts, strict=True)
    ]
    return [
        (measured[place * len(methods) : (place + 1) * len(methods)], traits, problems)
        for place, (_, traits, problems) in enumerate(opened)
    ]


def _open(
    record: Record, predictions: list[Prediction], methods: Sequence[Setup]
) -> tuple[list[ImageScores | ImageRuns | None], FloatArray, list[list[Problem]]]:
    """Return what is to be measured of each method, traits, and problems of an image."""
    problems: list[list[Problem]] = [[] for _ in methods]
    opened: list[ImageScores | ImageRuns | None] = [None for _ in methods]
    try:
        truth = truth_from_dict(record)
    except ValueError as error:
        for own in problems:
            own.append(("bad ground truth", str(error)))
        return opened, np.zeros(3), problems
    for place, (prediction, setup) in enumerate(zip(predictions, methods, strict=True)):
        if prediction is None and setup.skip:
            continue
        opened[place], problems[place] = open_prediction(prediction, truth, setup.kind)
    return opened, _traits(truth), problems


def _parts(image: ImageScores) -> list[_Part]:
    """Return what remains of a prediction at the thresholds that remove something."""
    assert image.confidences is not None
    kept = image.confidences > THRESHOLDS[:, None]
    counts = kept.sum(axis=1)
    rows = [counts == count for count in set(counts.tolist()) - {image.n_pred}]
    return [(row, image.with_predictions(kept[row.argmax()])) for row in rows]


def _measure(image: ImageScores, prediction: Prediction, curves: bool, parts: list[_Part]) -> Measured:
    values = _score_variants(image)
    if isinstance(prediction, Path) or image.is_map:
        return _unused()._replace(values=values)
    instances = prediction or []
    ranks = image.gt_ranks.tolist()
    matched = match_best(image.shared(iou_lists), 0.5, image.scores.tolist(), ranks)
    top = {place for place, rank in zip(matched, ranks, strict=True) if rank == max(ranks)}
    first = [
        [item.first, float(place in top)] for place, item in enumerate(instances) if item.first is not None
    ]
    measured = _unused()._replace(values=values, first=np.array(first, np.float64).reshape(-1, 2))
    if not curves:
        return measured
    found = [[min(item.confidence, 1.0), float(place in matched)] for place, item in enumerate(instances)]
    curve = np.repeat(values[_HEADLINE_PLACES, None], len(THRESHOLDS), axis=1)
    for at, part in parts:
        curve[:, at] = [[_number(variant.score(part))] for variant in _HEADLINE_VARIANTS]
    return measured._replace(curve=curve, found=np.array(found, np.float64).reshape(-1, 2))


def _unused() -> Measured:
    events = np.zeros((0, 2))
    nothing = np.full((len(HEADLINE), len(THRESHOLDS)), np.nan)
    return Measured(np.full(len(VARIANTS), np.nan), nothing, events, events)


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
