"""What a setting may be: one line with the key, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from detectron2.layers import get_norm
from detectron2.utils.registry import Registry

__all__ = ["check_features", "check_least", "check_norm", "check_registered"]


def check_least(least: float, settings: Mapping[str, float]) -> None:
    """Raise ``ValueError`` for the first number below ``least``.

    Args:
        least: smallest number allowed.
        settings: key -> value.
    """
    for key, value in settings.items():
        if not value >= least:
            raise ValueError(f"{key}: found {value}, expected at least {least:g}")


def check_features(key: str, wanted: Iterable[str], available: Iterable[str]) -> None:
    """Raise ``ValueError`` unless feature maps are named, and all of them are there.

    Args:
        key: the setting that names them.
        wanted: the names.
        available: what the backbone or pyramid gives.
    """
    names, known = list(wanted), sorted(available)
    missing = [name for name in names if name not in known]
    if missing or not names:
        raise ValueError(f"{key}: found {missing or names}, expected of {known}")


def check_registered(key: str, name: str, registry: Registry) -> None:
    """Raise ``ValueError`` for a name that is not in a registry."""
    if name not in registry:
        known = ", ".join(sorted(entry for entry, _ in registry))
        raise ValueError(f"{key}: found {name!r}, expected one of {known}")


def check_norm(key: str, name: str) -> None:
    """Raise ``ValueError`` for a normalisation that detectron2 does not know."""
    try:
        get_norm(name, 32)
    except KeyError:
        raise ValueError(
            f"{key}: found {name!r}, expected what detectron2's get_norm knows, such as 'FrozenBN' or 'GN'"
        ) from None
