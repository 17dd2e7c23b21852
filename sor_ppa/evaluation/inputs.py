"""Checks of arrays: each is checked once, with one clear line for whatever is wrong."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .fields import expect


class Masks(NamedTuple):
    """Checked masks.

    Attributes:
        strict: (N, H, W) uint8, 1 where the value is > 0.5.
        loose: the same with >= 0.5; the same array if no value is exactly 0.5.
        soft: the masks themselves if they are float, otherwise None.
        size: (H, W), or None for an empty list without a shape.
    """

    strict: NDArray[np.uint8]
    loose: NDArray[np.uint8]
    soft: NDArray[np.floating] | None
    size: tuple[int, int] | None


def check_masks(masks: ArrayLike, name: str) -> Masks:
    """Check and binarize a stack of masks.

    Args:
        masks: (N, H, W) bool, uint8 holding 0 and 1, or float in [0, 1]; an empty list means none.
        name: names the masks in messages.

    Raises:
        InputError: wrong number of axes, type, range, or NaN.
    """
    array = np.asarray(masks)
    if array.size == 0 and array.ndim == 1:
        none = np.zeros((0, 0, 0), np.uint8)
        return Masks(none, none, None, None)
    expect(array.ndim == 3, name, "masks of shape (N, H, W)", f"shape {array.shape}")
    size = (int(array.shape[1]), int(array.shape[2]))
    expect(0 not in size, name, "masks with pixels", f"shape {array.shape}")
    if array.dtype == np.bool_:
        binary = np.ascontiguousarray(array).view(np.uint8)
        return Masks(binary, binary, None, size)
    if array.dtype == np.uint8:
        highest = array.max(initial=0)
        expect(highest <= 1, name, "uint8 masks that hold 0 and 1", f"a value of {highest}")
        return Masks(array, array, None, size)
    floating = np.issubdtype(array.dtype, np.floating)
    expect(floating, name, "masks of type bool, uint8 or float", array.dtype)
    if array.size:
        low, high = array.min(), array.max()
        found = "NaN" if np.isnan(low) else f"{low:g} to {high:g}"
        expect(low >= 0 and high <= 1, name, "mask values in [0, 1]", found)
    strict = np.greater(array, 0.5).view(np.uint8)
    loose = np.greater_equal(array, 0.5).view(np.uint8)
    if np.count_nonzero(strict) == np.count_nonzero(loose):
        loose = strict
    return Masks(strict, loose, array, size)


def check_size(gt: Masks, pred: Masks) -> tuple[int, int]:
    """Return the common (height, width) of ground truth and predictions."""
    size = gt.size or pred.size
    if size is None:
        raise ValueError(
            "gt_masks, pred_masks: expected at least one of shape (N, H, W), found two empty lists"
        )
    if pred.size is not None:
        same_size(pred.size, size, "pred_masks")
    return size


def same_size(size: tuple[int, ...], expected: tuple[int, int], name: str) -> None:
    """Check that masks or a map have the (height, width) of the ground-truth masks."""
    wanted = f"the size of gt_masks, {expected[0]} x {expected[1]} (height x width)"
    expect(size == expected, name, wanted, f"{size[0]} x {size[1]}")


def check_gt_ranks(ranks: ArrayLike, count: int) -> NDArray[np.int64]:
    """Check ground-truth ranks: (count,) integers, dense from 0, ties allowed."""
    array = _vector(ranks, count, "gt_ranks", "gt_masks")
    if array.size == 0:
        return np.zeros(0, np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        whole = np.issubdtype(array.dtype, np.floating) and np.equal(np.mod(array, 1), 0).all()
        expect(whole, "gt_ranks", "integers", _shown(array))
    array = array.astype(np.int64, copy=False)
    present = np.unique(array)
    if present[0] != 0 or present[-1] != len(present) - 1:
        raise ValueError(
            f"gt_ranks: expected dense integers from 0 (higher = more salient), found {_shown(array)}; "
            "dense_ranks() makes them dense"
        )
    return array


def check_scores(scores: ArrayLike, count: int, name: str) -> NDArray[np.float64]:
    """Check prediction scores or confidences: (count,) finite numbers."""
    array = _vector(scores, count, name, "pred_masks")
    if array.size == 0:
        return np.zeros(0, np.float64)
    real = np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array)
    expect(real, name, "numbers", f"type {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, found {_shown(array)}")
    return array


def dense_ranks(ranks: ArrayLike) -> NDArray[np.int64]:
    """Renumber any ranks (higher = more salient) to dense integers from 0; equal ranks stay equal."""
    array = np.asarray(ranks).reshape(-1)
    return np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(-1)


def check_map(gray: ArrayLike, name: str) -> NDArray[np.uint8]:
    """Check a painted map: (H, W) uint8."""
    array = np.asarray(gray)
    good = array.ndim == 2 and array.size and array.dtype == np.uint8
    expect(good, name, "a uint8 map of shape (H, W)", f"{array.dtype} {array.shape}")
    return array


def _vector(values: ArrayLike, count: int, name: str, masks: str) -> NDArray:
    array = np.asarray(values)
    expect(array.shape == (count,), name, f"{count} numbers, one for each of {masks}", f"shape {array.shape}")
    return array


def _shown(array: NDArray) -> str:
    text = ", ".join(str(value) for value in array[:8].tolist())
    return f"[{text}{', ...' if len(array) > 8 else ''}]"
