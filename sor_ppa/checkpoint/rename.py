"""Renaming the entries of a state dict without losing any; the one table that several systems share."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .errors import CheckpointError

__all__ = ["Rule", "apply_rules", "rename_keys", "resnet_name"]

T = TypeVar("T")

# A pattern and what replaces its first match.
Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

# torchvision's and timm's ResNet, ResNeXt -> detectron2's.
_RESNET: tuple[Rule, ...] = (
    (re.compile(r"^layer(\d)\."), lambda m: f"res{int(m[1]) + 1}."),
    (re.compile(r"\.downsample\.0\."), ".shortcut."),
    (re.compile(r"\.downsample\.1\."), ".shortcut.norm."),
    (re.compile(r"(?<![^.])bn(\d)\."), r"conv\1.norm."),
    (re.compile(r"^conv1\."), "stem.conv1."),
)


def apply_rules(name: str, rules: Sequence[Rule]) -> str:
    """Apply each rule once, in order, to one parameter name."""
    for pattern, replacement in rules:
        name = pattern.sub(replacement, name, count=1)
    return name


def resnet_name(name: str) -> str:
    """Return detectron2's name of a torchvision ResNet parameter; other names come back unchanged.

    Example:
        ``layer1.0.bn2.weight`` becomes ``res2.0.conv2.norm.weight``.
    """
    return apply_rules(name, _RESNET)


def rename_keys(state_dict: Mapping[str, T], rename: Callable[[str], str]) -> dict[str, T]:
    """Rename every key; values and order stay.

    Args:
        state_dict: parameter name -> tensor.
        rename: old name -> new name.

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
