"""The door: arrays are checked here once, with one clear line for whatever is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .regions import rle_runs


class Masks(NamedTuple):
    """Checked masks.

    Attributes:
        strict: (N, H, W) uint8, 1 where the value is > 0.5.
        loose: the same with >= 0.5; the same object where no value is exactly 0.5.
        soft: the masks themselves where they are float and not just 0 and 1, otherwise None.
        size: (H, W), or None for an empty list without a shape.
    """

    strict: NDArray[np.uint8]
    loose: NDArray[np.uint8]
    soft: NDArray[np.floating] | None
    size: tuple[int, int] | None


def check_masks(masks: ArrayLike, name: str) -> Masks:
    """Checks and binarises a stack of masks.

    Args:
        masks: (N, H, W) bool, uint8 holding 0 and 1, or float in [0, 1]; an empty list means none.
        name: what to call it in messages.

    Raises:
        ValueError: wrong number of axes, type, range, or NaN.
    """
    array = np.asarray(masks)
    if array.size == 0 and array.ndim == 1:
        none = np.zeros((0, 0, 0), np.uint8)
        return Masks(none, none, None, None)
    if array.ndim != 3:
        raise ValueError(f"{name}: expected masks of shape (N, H, W), found shape {array.shape}")
    size = (int(array.shape[1]), int(array.shape[2]))
    if 0 in size:
        raise ValueError(f"{name}: expected masks with pixels, found shape {array.shape}")
    if array.dtype == np.bool_:
        binary = np.ascontiguousarray(array).view(np.uint8)
        return Masks(binary, binary, None, size)
    if array.dtype == np.uint8:
        if array.size and array.max() > 1:
            raise ValueError(
                f"{name}: expected uint8 masks that hold 0 and 1, found a value of {array.max()}"
            )
        return Masks(array, array, None, size)
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{name}: expected masks of type bool, uint8 or float, found {array.dtype}")
    return _check_float_masks(array, name, size)


def _check_float_masks(array: NDArray[np.floating], name: str, size: tuple[int, int]) -> Masks:
    if array.size:
        low, high = array.min(), array.max()
        if np.isnan(low) or np.isnan(high):
            raise ValueError(f"{name}: expected mask values in [0, 1], found NaN")
        if low < 0 or high > 1:
            raise ValueError(f"{name}: expected mask values in [0, 1], found {low:g} to {high:g}")
    strict = np.greater(array, 0.5).view(np.uint8)
    loose = np.greater_equal(array, 0.5).view(np.uint8)
    if np.count_nonzero(strict) == np.count_nonzero(loose):
        loose = strict
    return Masks(strict, loose, array, size)


def check_size(gt: Masks, pred: Masks) -> tuple[int, int]:
    """The common (height, width) of ground truth and predictions."""
    if gt.size is None and pred.size is None:
        raise ValueError("gt_masks, pred_masks: at least one needs the shape (N, H, W), both are empty lists")
    if gt.size is not None and pred.size is not None and gt.size != pred.size:
        raise ValueError(
            f"pred_masks: expected the size of gt_masks, {gt.size[0]} x {gt.size[1]} (height x width), "
            f"found {pred.size[0]} x {pred.size[1]}"
        )
    size = gt.size if gt.size is not None else pred.size
    assert size is not None
    return size


def check_gt_ranks(ranks: ArrayLike, count: int) -> NDArray[np.int64]:
    """Checks ground-truth ranks: (count,) integers, dense from 0, ties allowed."""
    array = _vector(ranks, count, "gt_ranks", "gt_masks")
    if array.size == 0:
        return np.zeros(0, np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        if not np.issubdtype(array.dtype, np.floating) or not np.all(np.equal(np.mod(array, 1), 0)):
            raise ValueError(f"gt_ranks: expected integers, found {_shown(array)}")
        array = array.astype(np.int64)
    array = array.astype(np.int64, copy=False)
    present = np.unique(array)
    if present[0] != 0 or present[-1] != len(present) - 1:
        raise ValueError(
            f"gt_ranks: expected dense integers from 0 (higher = more salient), found {_shown(array)}; "
            "dense_ranks() makes them dense"
        )
    return array


def check_scores(scores: ArrayLike, count: int, name: str) -> NDArray[np.float64]:
    """Checks prediction scores or confidences: (count,) finite numbers."""
    array = _vector(scores, count, name, "pred_masks")
    if array.size == 0:
        return np.zeros(0, np.float64)
    if not (np.issubdtype(array.dtype, np.number) and not np.iscomplexobj(array)):
        raise ValueError(f"{name}: expected numbers, found type {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers, found {_shown(array)}")
    return array


def dense_ranks(ranks: ArrayLike) -> NDArray[np.int64]:
    """Renumbers any ranks (higher = more salient) to dense integers from 0; equal ranks stay equal."""
    array = np.asarray(ranks).reshape(-1)
    return np.unique(array, return_inverse=True)[1].astype(np.int64).reshape(-1)


def check_map(grey: ArrayLike, name: str) -> NDArray[np.uint8]:
    """Checks a painted map: (H, W) uint8."""
    array = np.asarray(grey)
    if array.ndim != 2 or array.size == 0 or array.dtype != np.uint8:
        raise ValueError(f"{name}: expected a uint8 map of shape (H, W), found {array.dtype} {array.shape}")
    return array


def check_rles(
    rles: Sequence[Mapping[str, Any]], size: tuple[int, int], name: str
) -> list[NDArray[np.int64]]:
    """Checks COCO run-length masks and returns their runs."""
    found = []
    for place, rle in enumerate(rles):
        where = f"{name}[{place}]"
        if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
            raise ValueError(f"{where}: expected an RLE dict with 'size' and 'counts', found {rle!r:.80}")
        if tuple(rle["size"]) != tuple(size):
            raise ValueError(f"{where}: expected size {list(size)}, found {list(rle['size'])}")
        found.append(check_runs(rle["counts"], size[0] * size[1], where))
    return found


def check_runs(counts: Any, total: int, where: str) -> NDArray[np.int64]:
    """Checks that COCO run lengths, compressed or not, cover ``total`` pixels, and returns them."""
    try:
        runs = rle_runs(counts)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{where}: counts: {error}") from error
    if runs.ndim != 1 or runs.sum() != total or (runs.size and runs.min() < 0):
        raise ValueError(f"{where}: expected runs that sum to {total}, found {runs.sum()}")
    return runs


def _vector(values: ArrayLike, count: int, name: str, masks: str) -> NDArray:
    array = np.asarray(values)
    if array.ndim != 1 or len(array) != count:
        raise ValueError(
            f"{name}: expected {count} numbers, one for each of {masks}, found shape {array.shape}"
        )
    return array


def _shown(array: NDArray) -> str:
    text = ", ".join(str(value) for value in array[:8].tolist())
    return f"[{text}{', ...' if len(array) > 8 else ''}]"
