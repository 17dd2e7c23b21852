"""Checks of arrays and of values from files. The message of every error is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..data.issues import short_repr
from ..data.masks import as_int, is_number
from ..data.record import dense_ranks

Identity = int | str


class InputError(ValueError):
    """Unusable input. The message is one line: ``<file or field>: expected <what>, found <what>``."""


class SizeError(InputError):
    """A map or mask of another size than its image."""


def expect(holds: Any, where: str, expected: str, found: Any) -> None:
    """Raise ``InputError`` unless ``holds``."""
    if not holds:
        raise InputError(f"{where}: expected {expected}, found {found}")


def expect_value(holds: Any, where: str, expected: str, value: object) -> None:
    """Raise ``InputError`` unless ``holds``; the message shows the beginning of a value."""
    if not holds:
        raise InputError(f"{where}: expected {expected}, found {short_repr(value)}")


def expect_size(size: Any, wanted: tuple[int, int], where: str, of: str) -> None:
    """Raise ``SizeError`` unless two sizes (height, width) are equal."""
    if tuple(size) != wanted:
        text = f"the size of {of}, {wanted[0]} x {wanted[1]} (height x width)"
        raise SizeError(f"{where}: expected {text}, found {size[0]!s:.20} x {size[1]!s:.20}")


def load_json(path: Path) -> Any:
    """Parse a JSON file; raise ``InputError`` if it cannot be read or parsed."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, found {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no JSON, no text, an endless number or nesting
        raise InputError(f"{path}: expected JSON, found invalid JSON ({error})") from error


def field(entry: Any, name: str, where: str) -> Any:
    """Return a field of a JSON object that must not be null."""
    value = entry.get(name) if isinstance(entry, dict) else None
    expect_value(value is not None, where, f"the field {name!r}", entry)
    return value


def identity(value: Any, where: str) -> Identity:
    """Return an image id, a number or text; 3.0 is 3."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    good = isinstance(value, int | str) and not isinstance(value, bool)
    expect_value(good, where, "a number or text", value)
    return value


def finite_number(value: Any, where: str) -> float:
    """Return a finite number."""
    expect_value(is_number(value), where, "a finite number", value)
    return float(value)


def integer(value: Any, where: str, expected: str, low: int, high: int) -> int:
    """Return an integer from ``low`` to ``high``; 3.0 is one."""
    result = as_int(value)
    if result is None or not low <= result <= high:
        raise InputError(f"{where}: expected {expected}, found {short_repr(value)}")
    return result


class Masks(NamedTuple):
    """Checked masks: (N, H, W) uint8, 1 where a value is > 0.5 (``strict``) or >= 0.5 (``loose``).

    ``loose`` is ``strict`` itself if no value is exactly 0.5. ``soft`` holds the masks themselves if they are
    float. ``size`` is (H, W), or None for an empty list without a shape.
    """

    strict: NDArray[np.uint8]
    loose: NDArray[np.uint8]
    soft: NDArray[np.floating] | None
    size: tuple[int, int] | None


def check_masks(masks: ArrayLike, name: str) -> Masks:
    """Check and binarize (N, H, W) bool, uint8 holding 0 and 1, or float in [0, 1]; an empty list means none.

    Raises:
        InputError: wrong number of axes, type, range, or NaN.
    """
    array = np.asarray(masks)
    if array.size == 0 and array.ndim == 1:
        none = np.zeros((0, 0, 0), np.uint8)
        return Masks(none, none, None, None)
    good = array.ndim == 3 and 0 not in array.shape[1:]
    expect(good, name, "masks of shape (N, H, W) with pixels", f"shape {array.shape}")
    size = (int(array.shape[1]), int(array.shape[2]))
    if np.issubdtype(array.dtype, np.floating):
        low, high = array.min(initial=0), array.max(initial=0)
        expect(low >= 0 and high <= 1, name, "mask values in [0, 1]", f"{low:g} to {high:g}")
        strict, loose = np.greater(array, 0.5).view(np.uint8), np.greater_equal(array, 0.5).view(np.uint8)
        same = np.count_nonzero(strict) == np.count_nonzero(loose)
        return Masks(strict, strict if same else loose, array, size)
    expect(array.dtype in (np.bool_, np.uint8), name, "masks of type bool, uint8 or float", array.dtype)
    if array.dtype == np.uint8:
        highest = array.max(initial=0)
        expect(highest <= 1, name, "uint8 masks that hold 0 and 1", f"a value of {highest}")
    binary = np.ascontiguousarray(array).view(np.uint8)
    return Masks(binary, binary, None, size)


def check_numbers(values: ArrayLike, count: int, name: str, masks: str = "pred_masks") -> NDArray[np.float64]:
    """Check (count,) finite numbers, one for each of some masks."""
    array = np.asarray(values)
    expect(array.shape == (count,), name, f"{count} numbers, one for each of {masks}", f"shape {array.shape}")
    real = np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array)
    expect(real, name, "numbers", f"type {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        expect_value(False, name, "finite numbers", array.tolist())
    return array


def check_gt_ranks(ranks: ArrayLike, count: int) -> NDArray[np.int64]:
    """Check ground-truth ranks: (count,) integers, dense from 0, ties allowed."""
    array = check_numbers(ranks, count, "gt_ranks", "gt_masks")
    dense = np.array(dense_ranks(array.tolist()), np.int64)
    wanted = "dense integers from 0 (higher = more salient), as dense_ranks() returns them"
    if not (array == dense).all():
        expect_value(False, "gt_ranks", wanted, array.tolist())
    return dense
