"""Rankings without learning: the rule itself, parts of it, and chance."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np

from ..issues import DatasetError
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
    masks = record.masks()
    ranks = np.array([item.rank for item in record.objects], dtype=np.int64)
    return Judged(masks, ranks, measure_cues(image, masks))


def rankings(judged: Judged, weights: RuleWeights, chance: np.random.Generator) -> dict[str, np.ndarray]:
    """Return scores (N,) by the whole rule, by chance, without each cue, and by each cue alone.

    Objects that the whole rule does not call salient get -inf, so that all rankings find the same objects
    and differ in the order alone. ``weights`` are those of the rule that made the dataset.
    """
    truth = salience(judged.cues, weights)
    found = np.zeros(len(truth), bool)
    found[np.argsort(-truth, kind="stable")[:MAX_SALIENT]] = True
    found &= truth > SALIENT_FROM
    scores = {"the rule": truth, "chance": chance.random(len(truth))}
    given = asdict(weights)
    for name, value in given.items():
        if 0 < value < sum(given.values()):
            scores[f"without {name}"] = salience(judged.cues, replace(weights, **{name: 0.0}))
    scores |= {f"{name} alone": getattr(judged.cues, name) for name in given}
    return {name: np.where(found, values, -np.inf) for name, values in scores.items()}
