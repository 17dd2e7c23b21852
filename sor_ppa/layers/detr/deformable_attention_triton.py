"""Fused sampling step of multi-scale deformable attention for CUDA.

One program handles a block of queries of one head. It reads the corners of all sampling points and
accumulates in registers, so no tensor of size queries x points x channels is written. The backward
kernel recomputes the corners and adds to the gradient of the values atomically. Sums are always float32.
The kernels compute what ``deformable_attention.py`` does.

Triton allows no type annotations in a kernel's signature except its own (``tl.constexpr``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 16


@triton.jit
def _forward_kernel(  # type: ignore[no-untyped-def]
    value,
    geometry,
    locations,
    weights,
    out,
    tokens,
    queries,
    heads,
    DIM: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    live = query < queries
    channel = tl.arange(0, DIM)
    row = (image * queries + query) * heads + head
    total = tl.zeros((BLOCK, DIM), dtype=tl.float32)
    for level in range(LEVELS):
        height = tl.load(geometry + level * 3)
        width = tl.load(geometry + level * 3 + 1)
        start = tl.load(geometry + level * 3 + 2)
        for point in range(POINTS):
            at = (row * LEVELS + level) * POINTS + point
            x = tl.load(locations + at * 2, mask=live, other=0.0) * width - 0.5
            y = tl.load(locations + at * 2 + 1, mask=live, other=0.0) * height - 0.5
            weight = tl.load(weights + at, mask=live, other=0.0)
            left = tl.floor(x)
            top = tl.floor(y)
            for corner in tl.static_range(4):
                column = left.to(tl.int32) + corner % 2
                line = top.to(tl.int32) + corner // 2
                inside = live & (column >= 0) & (column < width) & (line >= 0) & (line < height)
                share = (1.0 - tl.abs(x - left - corner % 2)) * (1.0 - tl.abs(y - top - corner // 2))
                cell = (image * tokens + start + line * width + column) * heads + head
                read = tl.load(
                    value + cell[:, None] * DIM + channel[None, :], mask=inside[:, None], other=0.0
                ).to(tl.float32)
                total += (share * weight)[:, None] * read
    tl.store(out + row[:, None] * DIM + channel[None, :], total, mask=live[:, None])


@triton.jit
def _backward_kernel(  # type: ignore[no-untyped-def]
    value,
    geometry,
    locations,
    weights,
    grad_out,
    grad_value,
    grad_locations,
    grad_weights,
    tokens,
    queries,
    heads,
    DIM: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(1)
    image = tl.program_id(2).to(tl.int64)
    live = query < queries
    channel = tl.arange(0, DIM)
    row = (image * queries + query) * heads + head
    incoming = tl.load(grad_out + row[:, None] * DIM + channel[None, :], mask=live[:, None], other=0.0).to(
        tl.float32
    )
    for level in range(LEVELS):
        height = tl.load(geometry + level * 3)
        width = tl.load(geometry + level * 3 + 1)
        start = tl.load(geometry + level * 3 + 2)
        for point in range(POINTS):
            at = (row * LEVELS + level) * POINTS + point
            x = tl.load(locations + at * 2, mask=live, other=0.0) * width - 0.5
            y = tl.load(locations + at * 2 + 1, mask=live, other=0.0) * height - 0.5
            weight = tl.load(weights + at, mask=live, other=0.0)
            left = tl.floor(x)
            top = tl.floor(y)
            to_weight = tl.zeros((BLOCK,), dtype=tl.float32)
            to_x = tl.zeros((BLOCK,), dtype=tl.float32)
            to_y = tl.zeros((BLOCK,), dtype=tl.float32)
            for corner in tl.static_range(4):
                column = left.to(tl.int32) + corner % 2
                line = top.to(tl.int32) + corner // 2
                inside = live & (column >= 0) & (column < width) & (line >= 0) & (line < height)
                share_x = 1.0 - tl.abs(x - left - corner % 2)
                share_y = 1.0 - tl.abs(y - top - corner // 2)
                cell = (image * tokens + start + line * width + column) * heads + head
                where = cell[:, None] * DIM + channel[None, :]
                read = tl.load(value + where, mask=inside[:, None], other=0.0).to(tl.float32)
                match = tl.sum(read * incoming, axis=1)
                to_weight += match * share_x * share_y
                to_x += match * share_y * (2.0 * (corner % 2) - 1.0)
                to_y += match * share_x * (2.0 * (corner // 2) - 1.0)
                tl.atomic_add(
                    grad_value + where, (weight * share_x * share_y)[:, None] * incoming, mask=inside[:, None]
                )
            tl.store(grad_weights + at, to_weight, mask=live)
            tl.store(grad_locations + at * 2, to_x * weight * width, mask=live)
            tl.store(grad_locations + at * 2 + 1, to_y * weight * height, mask=live)


@lru_cache(maxsize=64)
def _geometry(shapes: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Return height, width and first token of every map, ``(L, 3)`` int32."""
    rows, start = [], 0
    for h, w in shapes:
        rows.append((h, w, start))
        start += h * w
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _launch(kernel: Any, value: Tensor, geometry: Tensor, locations: Tensor, *tensors: Tensor) -> None:
    """Run a kernel on all queries, heads and images."""
    images, tokens, heads, dim = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    if locations.numel():
        grid = (triton.cdiv(queries, _BLOCK), heads, images)
        sizes = {"DIM": dim, "LEVELS": levels, "POINTS": points, "BLOCK": _BLOCK}
        with torch.cuda.device_of(value):
            kernel[grid](value, geometry, locations, *tensors, tokens, queries, heads, **sizes)


class _Sample(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, geometry: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(value, geometry, locations, weights)
        images, _, heads, dim = value.shape
        shape = (images, locations.shape[1], heads * dim)
        out = torch.empty(shape, dtype=torch.float32, device=value.device)
        _launch(_forward_kernel, value, geometry, locations, weights, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        value, geometry, locations, weights = ctx.saved_tensors
        grad_value = torch.zeros_like(value, dtype=torch.float32)
        grads = torch.empty_like(locations), torch.empty_like(weights)
        incoming = grad_out.contiguous()
        _launch(_backward_kernel, value, geometry, locations, weights, incoming, grad_value, *grads)
        return grad_value.to(value.dtype), None, *grads


def sample_triton(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sample with the fused kernels; as ``deformable_sampling``, but D must be a power of two."""
    geometry = _geometry(tuple((int(h), int(w)) for h, w in shapes), value.device)
    out = _Sample.apply(
        value.contiguous(), geometry, locations.float().contiguous(), weights.float().contiguous()
    )
    return out.to(value.dtype)
