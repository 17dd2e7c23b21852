"""The rules that the table of allowed values is made of: each tests a value and says what is expected."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.layers import get_norm
from detectron2.utils.registry import Registry

__all__ = [
    "Condition",
    "Row",
    "Rule",
    "as_many_as",
    "counted_by",
    "divisor_of",
    "each",
    "existing_file",
    "multiple_of",
    "names_from",
    "norm",
    "number",
    "one_of",
    "optional",
    "registered",
    "rising",
    "rows",
    "text",
    "value_of",
    "whole",
]


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    Attributes:
        expected: the words for an error, given the configuration.
        holds: whether a value is allowed, given the configuration.
    """

    expected: Callable[[CfgNode], str]
    holds: Callable[[Any, CfgNode], bool]


Condition = Callable[[CfgNode], Any]


@dataclass(frozen=True)
class Row:
    """One row of the table of allowed values.

    Attributes:
        key: dotted.
        rule: what its value may be.
        when: whether the row applies to a configuration; None: it always does.
    """

    key: str
    rule: Rule
    when: Condition | None = None


def rows(prefix: str, rules: dict[str, Rule], when: Condition | None = None) -> list[Row]:
    """Make the rows of keys that share a prefix.

    Args:
        prefix: the node of the keys; "" for the top.
        rules: names below the node -> rule; several names are separated by spaces.
        when: of all rows.
    """
    dotted = f"{prefix}." if prefix else ""
    return [Row(dotted + name, rule, when) for names, rule in rules.items() for name in names.split()]


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return the value of a dotted key.

    Raises:
        KeyError: no such key.
    """
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def _plain(expected: str, holds: Callable[[Any], bool]) -> Rule:
    """Make a rule that does not depend on other keys."""
    return Rule(lambda cfg: expected, lambda value, cfg: holds(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def one_of(*choices: Any) -> Rule:
    """Allow one of a few values of the same type."""
    words = " or ".join(map(repr, choices)) if len(choices) < 3 else f"one of {', '.join(map(repr, choices))}"
    return _plain(words, lambda value: any(type(value) is type(c) and value == c for c in choices))


def whole(low: int, high: int) -> Rule:
    """Allow whole numbers from ``low`` to ``high``."""
    return _plain(
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def number(interval: str = "(-inf, inf)") -> Rule:
    """Allow numbers in an interval such as ``"(0, 1]"``; a round bracket leaves its end out."""
    low, high = (float(end) for end in interval[1:-1].split(","))

    def holds(value: Any) -> bool:
        if not _is_number(value):
            return False
        above = value > low if interval[0] == "(" else value >= low
        return above and (value < high if interval[-1] == ")" else value <= high)

    return _plain(
        "a finite number" if (low, high) == (-math.inf, math.inf) else f"a number in {interval}", holds
    )


def each(rule: Rule, length: int | None = None, least: int = 1) -> Rule:
    """Allow lists whose values each meet a rule.

    Args:
        rule: for the values.
        length: of the list; None for any.
        least: fewest values, where ``length`` is None.
    """
    count = (
        f"{length} values" if length is not None else "a list" if least == 0 else f"at least {least} value(s)"
    )

    def holds(value: Any, cfg: CfgNode) -> bool:
        fits = _is_list(value) and (len(value) == length if length is not None else len(value) >= least)
        return fits and all(rule.holds(item, cfg) for item in value)

    return Rule(lambda cfg: f"{count}, each {rule.expected(cfg)}", holds)


def rising(rule: Rule) -> Rule:
    """Allow lists that meet a rule and whose values never fall."""
    return Rule(
        lambda cfg: f"{rule.expected(cfg)}, in rising order",
        lambda value, cfg: rule.holds(value, cfg) and list(value) == sorted(value),
    )


def optional(rule: Rule) -> Rule:
    """Allow what a rule allows, and None."""
    return Rule(
        lambda cfg: f"{rule.expected(cfg)}, or None",
        lambda value, cfg: value is None or rule.holds(value, cfg),
    )


def text() -> Rule:
    """Allow any text."""
    return _plain("text", lambda value: isinstance(value, str))


def existing_file(kind: str) -> Rule:
    """Allow paths of files that exist."""
    return _plain(
        f"the path of {kind}, a file that exists",
        lambda value: isinstance(value, str) and os.path.isfile(value),
    )


def registered(registry: Registry, *others: str) -> Rule:
    """Allow the names of a registry, and ``others``."""
    return Rule(
        lambda cfg: f"one of {', '.join(sorted(map(repr, (*others, *(name for name, _ in registry)))))}",
        lambda value, cfg: isinstance(value, str) and (value in others or value in registry),
    )


def norm() -> Rule:
    """Allow the names of normalization layers that detectron2 knows."""

    def holds(value: Any) -> bool:
        try:
            get_norm(value, 32)
        except (KeyError, TypeError):
            return False
        return isinstance(value, str)

    return _plain("a normalization that detectron2 knows, such as 'FrozenBN', 'BN', 'GN' or ''", holds)


def names_from(source: str, names: Callable[[CfgNode], Sequence[str] | None]) -> Rule:
    """Allow lists of at least one of the names that other keys define.

    Args:
        source: where the names come from, for the error.
        names: the names; None where they are not known, which allows all.
    """

    def holds(value: Any, cfg: CfgNode) -> bool:
        known = names(cfg)
        return _is_list(value) and len(value) > 0 and (known is None or all(name in known for name in value))

    return Rule(lambda cfg: f"at least one of {list(names(cfg) or ())} ({source})", holds)


def _count(cfg: CfgNode, key: str) -> int:
    """Return the value of a key that holds a number, or the length of one that holds a list."""
    value = value_of(cfg, key)
    return len(value) if _is_list(value) else value


def as_many_as(key: str, more: int = 0) -> Rule:
    """Allow lists with as many values as another key has or says, plus ``more``."""
    relation = {1: "one more than ", -1: "one less than "}.get(more, "")
    return Rule(
        lambda cfg: f"{_count(cfg, key) + more} values ({relation}{key})",
        lambda value, cfg: len(value) == _count(cfg, key) + more,
    )


def counted_by(key: str) -> Rule:
    """Allow numbers that are no smaller than the length of another key's list."""
    return Rule(
        lambda cfg: f"at least {_count(cfg, key)} (values of {key})",
        lambda value, cfg: value >= _count(cfg, key),
    )


def divisor_of(key: str) -> Rule:
    """Allow divisors of another key's value."""
    return Rule(
        lambda cfg: f"a divisor of {value_of(cfg, key)} ({key})",
        lambda value, cfg: value_of(cfg, key) % value == 0,
    )


def multiple_of(factor: int | str) -> Rule:
    """Allow positive multiples of a number, or of another key's value."""

    def found(cfg: CfgNode) -> int:
        return factor if isinstance(factor, int) else value_of(cfg, factor)

    return Rule(
        lambda cfg: f"a multiple of {found(cfg)}" + (f" ({factor})" if isinstance(factor, str) else ""),
        lambda value, cfg: type(value) is int and value > 0 and value % found(cfg) == 0,
    )
