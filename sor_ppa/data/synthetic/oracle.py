"""Rankings without learning: the rule itself, parts of it, and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np

from ..issues import DatasetError
from ..masks import stacked_masks
from ..record import ImageRecord
from .rule import MAX_SALIENT, SALIENT_FROM, Cues, RuleWeights, measure_cues, salience


@dataclass(frozen=True)
class Judged:
    """The N objects of an image of the benchmark, salient or not."""

    masks: np.ndarray  # (N, H, W) bool
    ranks: np.ndarray  # (N,) true ranks, higher = more salient, -1 = not salient
    cues: Cues


def judge(record: ImageRecord) -> Judged:
    """Measure the cues of a record of the benchmark (read with its objects without a rank).

    Raises:
        DatasetError: the image cannot be read.
    """
    image = cv2.imread(record.file_name)
    if image is None:
        raise DatasetError(f"{record.file_name}: expected an image, found a broken file")
    masks = stacked_masks([item.segmentation for item in record.objects], record.height, record.width)
    ranks = np.array([item.rank for item in record.objects], dtype=np.int64)
    return Judged(masks, ranks, measure_cues(image, masks))


Scorer = Callable[[Judged], np.ndarray]


def _found(judged: Judged, weights: RuleWeights) -> np.ndarray:
    """Return which objects (N,) the whole rule calls salient."""
    truth = salience(judged.cues, weights)
    best = np.zeros(len(truth), bool)
    best[np.argsort(-truth, kind="stable")[:MAX_SALIENT]] = True
    return best & (truth > SALIENT_FROM)


def rankings(weights: RuleWeights, seed: int = 0) -> Iterator[tuple[str, Scorer]]:
    """Yield named rankings: the whole rule, chance, the rule without each cue, and each cue alone.

    Each is a function from an image to scores (N,). Objects that the whole rule does not call salient get
    -inf, so that all rankings find the same objects and differ in the order alone.

    Args:
        weights: of the rule that made the dataset.
        seed: of chance.
    """
    rng = np.random.default_rng(seed)
    given = asdict(weights)

    def rule(part: RuleWeights) -> Scorer:
        return lambda judged: salience(judged.cues, part)

    def cue(index: int) -> Scorer:
        return lambda judged: judged.cues.array()[:, index]

    def among_found(scores: Scorer) -> Scorer:
        return lambda judged: np.where(_found(judged, weights), scores(judged), -np.inf)

    yield "the rule", among_found(rule(weights))
    yield "chance", among_found(lambda judged: rng.random(len(judged.ranks)))
    for name, value in given.items():
        if value and sum(given.values()) > value:
            yield f"without {name}", among_found(rule(replace(weights, **{name: 0.0})))
    for index, name in enumerate(given):
        yield f"{name} alone", among_found(cue(index))
