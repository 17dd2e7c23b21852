"""The rules of the table of allowed values: each tests a value and says what is expected."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from detectron2.config import CfgNode
from detectron2.layers import get_norm
from detectron2.utils.registry import Registry

from .files import find_config

__all__ = ["Keys", "Rule", "below", "value_of"]


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    Attributes:
        expected: the words for an error, given the configuration.
        holds: whether a value is allowed, given the configuration.
    """

    expected: Callable[[CfgNode], str]
    holds: Callable[[Any, CfgNode], bool]


Keys = dict[str, tuple[Any, Rule]]
"""Key -> its default and what it may be by itself."""


_Row = TypeVar("_Row")


def below(node: str, rows: dict[str, _Row]) -> dict[str, _Row]:
    """Return rows by their full key: a node in front, and one row for each of several names in a key."""
    return {f"{node}.{name}".lstrip("."): row for names, row in rows.items() for name in names.split()}


def value_of(cfg: CfgNode, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        cfg = cfg[part]
    return cfg


def plain(expected: str, holds: Callable[[Any], bool]) -> Rule:
    """Make a rule that does not depend on other keys."""
    return Rule(lambda cfg: expected, lambda value, cfg: holds(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def one_of(*choices: Any) -> Rule:
    """Allow one of a few values of the same type."""
    words = " or ".join(map(repr, choices)) if len(choices) < 3 else f"one of {', '.join(map(repr, choices))}"
    return plain(words, lambda value: any(type(value) is type(c) and value == c for c in choices))


def whole(low: int, high: int) -> Rule:
    """Allow whole numbers from ``low`` to ``high``."""
    return plain(
        f"a whole number from {low} to {high}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
    )


def number(interval: str = "(-inf, inf)") -> Rule:
    """Allow numbers in an interval such as ``"(0, 1]"``; a round bracket leaves its end out."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = operator.gt if interval[0] == "(" else operator.ge
    under = operator.lt if interval[-1] == ")" else operator.le
    words = f"a number in {interval}" if interval != "(-inf, inf)" else "a finite number"
    return plain(words, lambda value: _is_number(value) and above(value, low) and under(value, high))


def each(rule: Rule, length: int | None = None, least: int = 1) -> Rule:
    """Allow lists of ``length`` values (None: at least ``least``) that each meet a rule."""
    count = f"{length} values" if length is not None else f"at least {least} value(s)" if least else "a list"

    def holds(value: Any, cfg: CfgNode) -> bool:
        fits = _is_list(value) and (len(value) >= least if length is None else len(value) == length)
        return fits and all(rule.holds(item, cfg) for item in value)

    return Rule(lambda cfg: f"{count}, each {rule.expected(cfg)}", holds)


def rising(rule: Rule, equal: bool = True) -> Rule:
    """Allow lists that meet a rule and whose values never fall, or always grow."""
    in_order = operator.le if equal else operator.lt
    return Rule(
        lambda cfg: f"{rule.expected(cfg)}, in rising order",
        lambda value, cfg: rule.holds(value, cfg) and all(map(in_order, value, value[1:])),
    )


def either(one: Rule, other: Rule) -> Rule:
    """Allow what one of two rules allows."""
    return Rule(
        lambda cfg: f"{one.expected(cfg)}, or {other.expected(cfg)}",
        lambda value, cfg: one.holds(value, cfg) or other.holds(value, cfg),
    )


def registered(registry: Registry, *others: str) -> Rule:
    """Allow the names of a registry, and ``others``."""
    return Rule(
        lambda cfg: f"one of {', '.join(sorted(map(repr, (*others, *(name for name, _ in registry)))))}",
        lambda value, cfg: isinstance(value, str) and (value in others or value in registry),
    )


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


def equal_to(source: str, wanted: Callable[[CfgNode], Any]) -> Rule:
    """Allow what other keys define: a value, or a list; None allows all."""

    def holds(value: Any, cfg: CfgNode) -> bool:
        found = wanted(cfg)
        return found is None or (list(value) if _is_list(value) else value) == found

    return Rule(lambda cfg: f"{wanted(cfg)} ({source})", holds)


_RELATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "at least": operator.ge,
    "below": operator.lt,
    "a divisor of": lambda value, other: other % value == 0,
    "a multiple of": lambda value, other: value % other == 0,
}


def _measure(cfg: CfgNode, key: str | int) -> Any:
    """Return the value of a key that holds a number, the length of one that holds a list, or a number."""
    value: Any = value_of(cfg, key) if isinstance(key, str) else key
    return len(value) if _is_list(value) else value


def related(relation: str, key: str | int) -> Rule:
    """Allow numbers that are ``relation`` another key's value (or the length of its list), or a number."""
    source = f" ({key})" if isinstance(key, str) else ""
    return Rule(
        lambda cfg: f"{relation} {_measure(cfg, key)}{source}",
        lambda value, cfg: bool(_RELATIONS[relation](value, _measure(cfg, key))),
    )


def as_many_as(key: str, more: int = 0) -> Rule:
    """Allow lists with as many values as another key has or says, plus ``more``."""
    relation = {1: "one more than ", -1: "one less than "}.get(more, "")
    return Rule(
        lambda cfg: f"{_measure(cfg, key) + more} values ({relation}{key})",
        lambda value, cfg: len(value) == _measure(cfg, key) + more,
    )


def _is_norm(value: Any) -> bool:
    try:
        get_norm(value, 32)
    except (KeyError, TypeError):
        return False
    return isinstance(value, str)


MANY, MAX_SIDE = 1_000_000_000, 65535
COUNT, COUNT_OR_ZERO = whole(1, MANY), whole(0, MANY)
# layers, values of a hyperparameter, and sides in pixels that a machine can hold
LAYERS, LAYERS_OR_NONE, CHANNELS, HEADS = whole(1, 100), whole(0, 100), whole(1, 65536), whole(1, 1024)
FEW, SOME, CLASSES, SIDE = whole(1, 1000), whole(1, 100_000), whole(1, 100_000), whole(1, MAX_SIDE)
NUMBER, POSITIVE, NOT_NEGATIVE = number(), number("(0, inf)"), number("[0, inf)")
SHARE, ABOVE_ZERO_SHARE, BELOW_ONE = number("[0, 1]"), number("(0, 1]"), number("[0, 1)")
AT_MOST_ONE = number("(-inf, 1]")
SWITCH = one_of(False, True)
TEXT = plain("text", lambda value: isinstance(value, str))
NAMES = each(TEXT)
NORM = plain("a normalization that detectron2 knows, such as 'FrozenBN', 'BN', 'GN' or ''", _is_norm)
CONFIG_FILE = plain(
    "the path of a saliency model's config, a file that exists",
    lambda value: isinstance(value, str) and find_config(value) is not None,
)
OWN_DATASET = plain(
    "'name=format:path'", lambda value: isinstance(value, str) and bool(re.fullmatch(r"[^=:]+=\w+:.+", value))
)
NAME_AND_FOLDER = plain("'name=folder'", lambda value: isinstance(value, str) and all(value.partition("=")))
