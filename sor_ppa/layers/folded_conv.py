"""A convolution and the frozen normalisation behind it as one kernel, in CPU inference."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from .onednn import conv2d, usable

__all__ = ["FoldedConv"]


class FoldedConv:
    """Runs a convolution without bias and its ``FrozenBatchNorm2d`` at once; equal up to rounding.

    The folded kernel is kept until a tensor that it comes from changes.
    """

    def __init__(self) -> None:
        self._kept: tuple[tuple[int, ...], Tensor, Tensor] | None = None

    def fits(self, x: Tensor, norm: nn.Module) -> bool:
        """Whether the fast path may stand for the plain one."""
        return type(norm) is FrozenBatchNorm2d and usable(x)

    def __call__(self, x: Tensor, conv: nn.Conv2d, norm: Any, relu: bool) -> Tensor:
        """``norm(conv(x))`` for x (B, C, h, w), and a ReLU where asked for."""
        weight, bias = self._kernel(conv, norm)
        return conv2d(x, weight, bias, conv.stride[0], int(conv.padding[0]), conv.groups, relu)

    def _kernel(self, conv: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
        sources = (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        known = not any(source.is_inference() for source in sources)
        state = tuple(int(n) for s in sources for n in (s.data_ptr(), s._version)) if known else ()
        if known and self._kept is not None and self._kept[0] == state:
            return self._kept[1], self._kept[2]
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = (conv.weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
        bias = norm.bias - norm.running_mean * scale
        self._kept = (state, weight, bias)
        return weight, bias

    def __deepcopy__(self, memo: dict) -> FoldedConv:
        return FoldedConv()

    def __getstate__(self) -> dict:
        return {"_kept": None}
