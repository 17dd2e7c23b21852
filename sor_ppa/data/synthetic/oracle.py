"""Rankings without learning: the rule itself, parts of it, and chance."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np

from ..images import decoded_image
from ..record import ImageRecord
from .rule import MAX_SALIENT, SALIENT_FROM, Cues, RuleWeights, measure_cues, salience


def record_cues(record: ImageRecord) -> Cues:
    """Measure the cues of an image of the benchmark, read with its objects without a rank."""
    return measure_cues(decoded_image(record.file_name), record.masks())


def rankings(cues: Cues, weights: RuleWeights, chance: np.random.Generator) -> dict[str, np.ndarray]:
    """Return scores (N,) by the whole rule, by chance, without each cue, and by each cue alone.

    Objects that the whole rule does not call salient get -inf, so that all rankings find the same objects
    and differ in the order alone. ``weights`` are those of the rule that made the dataset.
    """
    truth = salience(cues, weights)
    found = np.zeros(len(truth), bool)
    found[np.argsort(-truth, kind="stable")[:MAX_SALIENT]] = True
    found &= truth > SALIENT_FROM
    scores = {"the rule": truth, "chance": chance.random(len(truth))}
    given = asdict(weights)
    for name, value in given.items():
        if 0 < value < sum(given.values()):
            scores[f"without {name}"] = salience(cues, replace(weights, **{name: 0.0}))
    scores |= {f"{name} alone": getattr(cues, name) for name in given}
    return {name: np.where(found, values, -np.inf) for name, values in scores.items()}
