"""ONNX forms of operators that PyTorch's exporter does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset18

from ..layers import nms  # noqa: F401  registers torch.ops.sor_ppa.kept_by_nms

__all__ = ["translations"]

op: Any = opset18
_BOOL = 9  # of onnx.TensorProto


def _sort_stable(x: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """``aten::sort.stable``; among equal values, ONNX's TopK takes those of lower positions first."""
    del stable
    length = op.Gather(op.Shape(x), op.Constant(value_ints=[dim]))
    return op.TopK(x, length, axis=dim, largest=int(descending), sorted=1)


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


def translations() -> dict[Callable, Callable]:
    """Return the ``custom_translation_table`` of ``torch.onnx.export``."""
    return {
        torch.ops.aten.sort.stable: _sort_stable,
        torch.ops.sor_ppa.kept_by_nms.default: _kept_by_nms,
    }
