"""Renaming the entries of a state dict by rules; the table that several systems share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .errors import CheckpointError

__all__ = ["Rules", "apply_rules", "rename_keys", "resnet_name", "without_prefixes"]

T = TypeVar("T")

# Patterns and what replaces their first match, in order.
Rules = Mapping[str, str | Callable[[re.Match[str]], str]]

# torchvision's and timm's ResNet, ResNeXt -> detectron2's.
_RESNET: Rules = {
    r"^layer(\d)\.": lambda m: f"res{int(m[1]) + 1}.",
    r"\.downsample\.0\.": ".shortcut.",
    r"\.downsample\.1\.": ".shortcut.norm.",
    r"(?<![^.])bn(\d)\.": r"conv\1.norm.",
    r"^conv1\.": "stem.conv1.",
}


def apply_rules(name: str, table: Rules) -> str:
    """Apply each rule once, in order, to one parameter name."""
    for pattern, replacement in table.items():
        name = re.sub(pattern, replacement, name, count=1)
    return name


def resnet_name(name: str) -> str:
    """Return detectron2's name of a torchvision ResNet parameter; other names come back unchanged.

    Example:
        ``layer1.0.bn2.weight`` becomes ``res2.0.conv2.norm.weight``.
    """
    return apply_rules(name, _RESNET)


def rename_keys(state_dict: Mapping[str, T], rename: Callable[[str], str]) -> dict[str, T]:
    """Rename every key; values and order stay.

    Raises:
        CheckpointError: if two names become one.
    """
    renamed: dict[str, T] = {}
    for name, value in state_dict.items():
        new = rename(name)
        if new in renamed:
            first = next(other for other in state_dict if rename(other) == new)
            raise CheckpointError(
                f"parameters {first!r} and {name!r} both map to {new!r}, expected one name each"
            )
        renamed[new] = value
    return renamed


def without_prefixes(state_dict: Mapping[str, T], prefixes: Sequence[str]) -> dict[str, T]:
    """Remove each of the prefixes that every name has, also where they follow one another."""
    result = dict(state_dict)
    while result and (prefix := next((p for p in prefixes if all(n.startswith(p) for n in result)), None)):
        result = {name.removeprefix(prefix): value for name, value in result.items()}
    return result
