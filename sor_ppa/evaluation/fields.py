"""Checks of values that come from files: one line for whatever is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

Identity = int | str


class InputError(ValueError):
    """Unusable input. The message is one line: ``<file or field>: expected <what>, found <what>``."""


def expect(holds: Any, where: str, expected: str, found: Any) -> None:
    """Raise ``InputError`` unless ``holds``."""
    if not holds:
        raise InputError(f"{where}: expected {expected}, found {found}")


def short_text(value: Any) -> str:
    """Return a short text for a JSON value; long and deeply nested ones by their type."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {', '.join(sorted(map(str, value))[:6]) or 'no fields'}"
    return f"{value!r:.60}"


def load_json(path: Path) -> Any:
    """Parse a JSON file.

    Raises:
        InputError: it cannot be read or parsed.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except RecursionError:
        raise InputError(f"{path}: expected JSON, found too many nested lists or objects") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: expected JSON, found {error.msg} at line {error.lineno}") from error
    except ValueError as error:  # not UTF-8, or a number with thousands of digits
        raise InputError(f"{path}: expected JSON, found {error}") from error


def field(entry: Any, name: str, where: str) -> Any:
    """Return a field of a JSON object that must not be null."""
    expect(isinstance(entry, dict), where, "an object", short_text(entry))
    expect(entry.get(name) is not None, where, f"the field {name!r}", short_text(entry))
    return entry[name]


def identity(value: Any, where: str) -> Identity:
    """Return an image id, a number or text."""
    expect(
        isinstance(value, int | str) and not isinstance(value, bool),
        where,
        "a number or text",
        short_text(value),
    )
    return value


def number(value: Any, where: str, expected: str = "a finite number") -> float:
    """Return a finite number."""
    try:
        result = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        result = math.inf
    expect(math.isfinite(result), where, expected, short_text(value))
    return result


def integer(value: Any, where: str, expected: str, low: int, high: int) -> int:
    """Return an integer from ``low`` to ``high``; 3.0 is one."""
    result = number(value, where, expected)
    expect(low <= result <= high and result == int(result), where, expected, short_text(value))
    return int(result)
