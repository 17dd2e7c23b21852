"""Renaming the entries of a state dict without losing any."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .errors import CheckpointError

__all__ = ["Rule", "apply_rules", "rename_keys"]

T = TypeVar("T")

# A pattern and what replaces its first match.
Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def apply_rules(name: str, rules: Sequence[Rule]) -> str:
    """Apply each rule once, in order, to one parameter name."""
    for pattern, replacement in rules:
        name = pattern.sub(replacement, name, count=1)
    return name


def rename_keys(state_dict: Mapping[str, T], rename: Callable[[str], str]) -> dict[str, T]:
    """Rename every key; the values are passed on untouched and in order.

    Args:
        state_dict: parameter name -> tensor.
        rename: old name -> new name.

    Returns:
        A new dict with as many entries as the given one.

    Raises:
        CheckpointError: if two names become one.
    """
    renamed: dict[str, T] = {}
    origin: dict[str, str] = {}
    for name, value in state_dict.items():
        new = rename(name)
        if new in renamed:
            raise CheckpointError(
                f"parameters {origin[new]!r} and {name!r} both map to {new!r}, expected one name each"
            )
        renamed[new] = value
        origin[new] = name
    return renamed
