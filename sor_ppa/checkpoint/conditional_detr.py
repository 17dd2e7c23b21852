"""Published names of DETR detectors, and of the pre-training that they may start from, in this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import siamese_detr

__all__ = ["convert"]


def convert(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Map a published detector to our names; a Siamese DETR pre-training gives a detector's initial weights.

    Args:
        state_dict: published name, or ours -> value.

    Returns:
        name in ``DETRDetector`` -> the same value. Of a pre-training the classifier and the heads
        that detectors lack are left out (see ``siamese_detr.to_detector``).
    """
    ours = siamese_detr.convert(state_dict)
    if any(name.startswith("pred_head.") for name in ours):
        return siamese_detr.to_detector(ours)
    return ours
