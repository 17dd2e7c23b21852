"""Published parameter names -> ours, one module a published system."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TypeVar

from .errors import CheckpointError

__all__ = ["SYSTEMS", "convert_published"]

T = TypeVar("T")

# System -> module of this package whose ``convert(state_dict)`` knows its names; imported when asked for.
SYSTEMS: Mapping[str, str] = {
    "sor": "sor",
    "salience_detr": "salience_detr",
    "siamese_detr": "siamese_detr",
    "conditional_detr": "conditional_detr",
    "inspyrenet": "inspyrenet",
}


def convert_published(state_dict: Mapping[str, T], system: str = "sor") -> dict[str, T]:
    """Map the parameter names of a published checkpoint to ours.

    Args:
        state_dict: published name -> tensor. Names that are ours already pass through.
        system: one of ``SYSTEMS``; ``sor`` also covers CenterMask2.

    Returns:
        Our name -> tensor.

    Raises:
        CheckpointError: if the system is unknown or two names map to one.
    """
    if system not in SYSTEMS:
        raise CheckpointError(f"unknown system {system!r}, expected one of {', '.join(SYSTEMS)}")
    try:
        return import_module(f"{__package__}.{SYSTEMS[system]}").convert(state_dict)
    except CheckpointError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise CheckpointError(f"no weights of {system} ({type(error).__name__}: {error})") from None
