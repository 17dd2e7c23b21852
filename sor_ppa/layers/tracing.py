"""Sizes for the tracer of an export.

It carries sizes as expressions of the height and width of the images. Where these grow long, it takes many
minutes, so some sizes get a symbol of their own here. Outside an export, these are plain indexing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["first", "opaque", "with_first"]


def opaque(number: int, least: int = 2) -> int:
    """Return a size; in an export, a new symbol in the place of its expression.

    Args:
        number: the size.
        least: what the tracer may assume. Graphs compute smaller ones, too.
    """
    if not torch.compiler.is_exporting():
        return number
    size: Any = torch.tensor(number).item()
    torch._check(size >= least)
    return size


def first(x: Tensor, count: int, dim: int = 1) -> Tensor:
    """Return the first ``count`` entries along an axis, at most; in an export, its size is ``count``."""
    return _first(x, count, dim) if torch.compiler.is_exporting() else _cut(x, count, dim)


def with_first(x: Tensor, rows: Tensor) -> Tensor:
    """Return ``x`` (B, N, ...) with its first n entries replaced by ``rows`` (B, n, ...)."""
    return _with_first(x, rows) if torch.compiler.is_exporting() else _join(x, rows)


def _cut(x: Tensor, count: int, dim: int) -> Tensor:
    return x[(slice(None),) * dim + (slice(count),)]


@torch.library.custom_op("sor_ppa::first", mutates_args=())
def _first(x: Tensor, count: int, dim: int) -> Tensor:
    return _cut(x, count, dim).clone()


@_first.register_fake
def _(x: Tensor, count: int, dim: int) -> Tensor:
    return x.new_empty(*x.shape[:dim], count, *x.shape[dim + 1 :])


def _join(x: Tensor, rows: Tensor) -> Tensor:
    return torch.cat([rows, x[:, rows.shape[1] :]], dim=1)


@torch.library.custom_op("sor_ppa::with_first", mutates_args=())
def _with_first(x: Tensor, rows: Tensor) -> Tensor:
    return _join(x, rows)


@_with_first.register_fake
def _(x: Tensor, rows: Tensor) -> Tensor:
    return torch.empty_like(x)
