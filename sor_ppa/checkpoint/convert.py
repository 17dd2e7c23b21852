"""Published parameter names -> ours, by the system that published them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from . import inspyrenet, mask2former, salience_detr, siamese_detr, sor
from .errors import CheckpointError
from .rename import without_prefixes

__all__ = ["SYSTEMS", "convert_published"]

T = TypeVar("T")

SYSTEMS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "sor": sor.convert,  # CenterMask2, too
    "salience_detr": salience_detr.convert,
    "siamese_detr": siamese_detr.convert,
    "conditional_detr": siamese_detr.convert_detector,
    "inspyrenet": inspyrenet.convert,
    "mask2former": mask2former.convert,
}


def convert_published(state_dict: Mapping[str, T], system: str = "sor") -> dict[str, T]:
    """Map the parameter names of a published checkpoint to ours.

    Args:
        state_dict: published name -> tensor. Names that are ours already pass through; ``module.``
            before all names is removed.
        system: one of ``SYSTEMS``; ``sor`` also covers CenterMask2.

    Returns:
        Our name -> tensor.

    Raises:
        CheckpointError: if the system is unknown or two names map to one.
    """
    if system not in SYSTEMS:
        raise CheckpointError(f"unknown system {system!r}, expected one of {', '.join(SYSTEMS)}")
    return SYSTEMS[system](without_prefixes(state_dict, ["module."]))
