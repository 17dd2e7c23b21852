"""ONNX forms of operators that PyTorch's exporter does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18

from ..layers import nms, tracing  # noqa: F401  register operators
from ..layers.detr import deformable_attention  # noqa: F401  registers an operator

__all__ = ["translations"]

op: Any = opset18
_INT64, _BOOL = 7, 9  # of onnx.TensorProto
_DIGIT = 1024


def _sort_stable(x: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """``aten::sort.stable`` out of sorts that may mix up equal values.

    OpenVINO's stable sort takes quadratic time. Here, equal values are sorted by their positions afterwards,
    in two digits, because its integers have 32 bits: right for up to 1.4 million values.
    """
    del stable
    axis = op.Constant(value_ints=[dim])
    length = op.Gather(op.Shape(x), axis)
    values, index = op.TopK(x, length, axis=dim, largest=int(descending))
    base = op.Constant(value_ints=[_DIGIT])
    highest = op.Add(op.Div(length, base), op.Constant(value_ints=[1]))
    group = _run_numbers(values, index, length, dim)
    key = op.Add(op.Mul(group, highest), op.Div(index, base))
    key, order = op.TopK(key, length, axis=dim, largest=0)
    index = op.GatherElements(index, order, axis=dim)
    group = _run_numbers(key, index, length, dim)
    _, order = op.TopK(op.Add(op.Mul(group, base), op.Mod(index, base)), length, axis=dim, largest=0)
    return values, op.GatherElements(index, order, axis=dim)


def _run_numbers(values: Any, index: Any, length: Any, dim: int) -> Any:
    """Number the runs of equal values along an axis from 0, with the shape and type of ``index``."""
    zero, one, axis = (op.Constant(value_ints=[number]) for number in (0, 1, dim))
    before = op.Slice(values, zero, op.Sub(length, one), axis)
    changes = op.Cast(op.Not(op.Equal(before, op.Slice(values, one, length, axis))), to=_INT64)
    first = op.Mul(op.Slice(index, zero, one, axis), zero)
    return op.CumSum(op.Concat(first, changes, axis=dim), axis)


def _kept_by_nms(boxes: Any, scores: Any, classes: Any, num_classes: int, threshold: float) -> Any:
    """:func:`sor_ppa.layers.nms.kept_by_nms`, with a row of scores (B, C, M) for each class."""
    by_class = op.Unsqueeze(scores, [1])
    if num_classes > 1:
        numbers = op.Constant(value_ints=list(range(num_classes)))
        own = op.Equal(op.Unsqueeze(classes, [1]), op.Unsqueeze(numbers, [0, 2]))
        by_class = op.Where(own, by_class, op.Constant(value_float=-1.0))
    most = op.Gather(op.Shape(scores), op.Constant(value_ints=[1]))
    thresholds = op.Constant(value_floats=[threshold]), op.Constant(value_floats=[-0.5])
    chosen = op.NonMaxSuppression(boxes, by_class, most, *thresholds)
    places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    ones = op.Expand(
        op.Constant(value_float=1.0), op.Shape(op.Gather(chosen, op.Constant(value_int=0), axis=1))
    )
    nothing = op.Expand(op.Constant(value_float=0.0), op.Shape(scores))
    return op.Cast(op.ScatterND(nothing, places, ones), to=_BOOL)


def _samples_of_levels(value: Any, shapes: Any, locations: Any, weights: Any, levels: int) -> Any:
    """:func:`sor_ppa.layers.detr.deformable_attention.samples_of_levels`, a ``GridSample`` for each map."""
    zero, one, two, three, rest = (op.Constant(value_ints=[number]) for number in (0, 1, 2, 3, -1))
    size = op.Shape(value)  # (B, S, H, D)
    queries = op.Gather(op.Shape(weights), one)  # of (B, Q, H, L, P)
    points = op.Gather(op.Shape(weights), op.Constant(value_ints=[4]))
    grids = op.Sub(op.Mul(locations, op.Constant(value_float=2.0)), op.Constant(value_float=1.0))
    total, start = None, zero
    for number in range(levels):
        level = op.Constant(value_int=number)
        shape = op.Gather(shapes, level)
        end = op.Add(start, op.ReduceProd(shape))
        cells = op.Transpose(op.Slice(value, start, end, one), perm=[0, 2, 3, 1])  # (B, H, D, h * w)
        cells = op.Reshape(cells, op.Concat(rest, op.Gather(size, three), shape, axis=0))
        grid = op.Transpose(op.Gather(grids, level, axis=3), perm=[0, 2, 1, 3, 4])  # (B, H, Q, P, 2)
        grid = op.Reshape(grid, op.Concat(rest, queries, points, two, axis=0))
        share = op.Transpose(op.Gather(weights, level, axis=3), perm=[0, 2, 1, 3])  # (B, H, Q, P)
        share = op.Reshape(share, op.Concat(rest, one, queries, points, axis=0))
        read = op.ReduceSum(op.Mul(op.GridSample(cells, grid), share), three, keepdims=0)  # (B * H, D, Q)
        total = read if total is None else op.Add(total, read)
        start = end
    total = op.Reshape(total, op.Concat(op.Gather(size, zero), rest, queries, axis=0))
    return op.Transpose(total, perm=[0, 2, 1])


def _first(x: Any, count: Any, dim: int) -> Any:
    """:func:`sor_ppa.layers.tracing.first`."""
    count = op.Reshape(count, op.Constant(value_ints=[1]))
    return op.Slice(x, op.Constant(value_ints=[0]), count, op.Constant(value_ints=[dim]))


def _with_first(x: Any, rows: Any) -> Any:
    """:func:`sor_ppa.layers.tracing.with_first`."""
    one = op.Constant(value_ints=[1])
    start, end = (op.Gather(op.Shape(part), one) for part in (rows, x))
    return op.Concat(rows, op.Slice(x, start, end, one), axis=1)


def translations() -> dict[Callable, Callable]:
    """Return the ``custom_translation_table`` of ``torch.onnx.export``."""
    return {
        torch.ops.aten.sort.stable: _sort_stable,
        torch.ops.sor_ppa.kept_by_nms.default: _kept_by_nms,
        torch.ops.sor_ppa.first.default: _first,
        torch.ops.sor_ppa.with_first.default: _with_first,
        torch.ops.sor_ppa.samples_of_levels.default: _samples_of_levels,
    }
