"""Rankings that need no learning: the rule itself, parts of it, and chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np

from ..issues import DatasetError
from ..masks import segmentation_mask
from ..record import ImageRecord
from .rule import SALIENT_FROM, Cues, RuleWeights, measure_cues, salience

__all__ = ["Judged", "judge", "rankings"]

_CUES = ("size", "centre", "contrast", "uniqueness")


@dataclass(frozen=True)
class Judged:
    """One image as the rule sees it.

    Attributes:
        masks: (N, H, W) bool of all objects, salient or not.
        ranks: (N,) true ranks, higher = more salient, -1 = not salient.
        cues: of all objects.
    """

    masks: np.ndarray
    ranks: np.ndarray
    cues: Cues


def judge(record: ImageRecord) -> Judged:
    """Measure the cues of a record of the benchmark (read with its objects without a rank).

    Raises:
        DatasetError: the image cannot be read.
    """
    image = cv2.imread(record.file_name)
    if image is None:
        raise DatasetError(f"{record.file_name}: not a readable image")
    masks = [segmentation_mask(item.segmentation, record.height, record.width) for item in record.objects]
    planes = np.array(masks, bool).reshape(-1, record.height, record.width)
    ranks = np.array([item.rank for item in record.objects], dtype=np.int64)
    return Judged(planes, ranks, measure_cues(image, planes))


Scorer = Callable[[Judged], np.ndarray]


def rankings(weights: RuleWeights, seed: int = 0) -> Iterator[tuple[str, Scorer]]:
    """Named rankings: the whole rule, chance, the rule without each cue, and each cue alone.

    Each is a function from an image to scores (N,); what the whole rule does not call salient gets
    -inf, so that all of them find the same objects and differ in the order alone.

    Args:
        weights: of the rule that made the dataset.
        seed: of chance.
    """
    rng = np.random.default_rng(seed)

    def found(judged: Judged, scores: np.ndarray) -> np.ndarray:
        truth = salience(judged.cues, weights)
        seen = np.zeros(len(truth), bool)
        seen[np.argsort(-truth, kind="stable")[:5]] = True
        return np.where(seen & (truth > SALIENT_FROM), scores, -np.inf)

    def by(part: RuleWeights) -> Scorer:
        return lambda judged: found(judged, salience(judged.cues, part))

    def cue(index: int) -> Scorer:
        return lambda judged: found(judged, judged.cues.array()[:, index])

    yield "the rule", by(weights)
    yield "chance", lambda judged: found(judged, rng.random(len(judged.ranks)))
    given = asdict(weights)
    for name in _CUES:
        if given[name] and sum(given.values()) > given[name]:
            yield f"without {name}", by(replace(weights, **{name: 0.0}))
    for index, name in enumerate(_CUES):
        yield f"{name} alone", cue(index)
