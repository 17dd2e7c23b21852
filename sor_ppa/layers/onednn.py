"""Linear layers and convolutions through oneDNN in CPU inference.

PyTorch sends float32 linear layers (and 1x1 convolutions of single images on one thread) to MKL, which on AMD
processors runs at about half of oneDNN's speed. The operators used here are the ones that
``torch.compile`` emits; where they are missing, or in training, or on another device, plain PyTorch runs.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Linear", "channels_last", "conv2d", "linear", "usable"]


def _usable(x: Tensor, name: str) -> Any:
    """The operator ``mkldnn::name`` where it may replace plain PyTorch for ``x``, else None."""
    if (
        torch.is_grad_enabled()
        or x.device.type != "cpu"
        or x.dtype != torch.float32
        or x.numel() == 0
        or torch.is_autocast_enabled("cpu")
        or torch.jit.is_tracing()
        or torch.compiler.is_compiling()
        or not torch.backends.mkldnn.is_available()
    ):
        return None
    return getattr(torch.ops.mkldnn, name, None)


def usable(x: Tensor) -> bool:
    """Whether :func:`conv2d` runs oneDNN's convolution on x: CPU inference in float32."""
    return _usable(x, "_convolution_pointwise") is not None


def channels_last(x: Tensor) -> Tensor:
    """x (B, C, h, w), laid out as oneDNN's convolutions are fastest with it where they run; else as it is.

    Convolutions hand the layout on to their outputs.
    """
    return x.contiguous(memory_format=torch.channels_last) if usable(x) else x


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """``x @ weight.T + bias``, and a ReLU where asked for.

    Args:
        x: ``(..., in)``.
        weight: ``(out, in)``.
        bias: ``(out,)``.
        relu: clamp the result at 0.

    Returns:
        ``(..., out)``.
    """
    operator = _usable(x, "_linear_pointwise")
    if operator is None:
        y = F.linear(x, weight, bias)
        return F.relu(y) if relu else y
    # oneDNN's fast kernels want dense operands; for strided ones it falls back to a plain loop.
    return operator(x.contiguous(), weight.contiguous(), bias, "relu" if relu else "none", [], "")


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: int = 1,
    padding: int = 0,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """A convolution with square stride and padding, and a ReLU where asked for.

    Args:
        x: ``(B, C, h, w)``.
        weight: ``(out, C / groups, k, k)``.
        bias: ``(out,)``.
        stride: in pixels.
        padding: in pixels.
        groups: of channels.
        relu: clamp the result at 0.

    Returns:
        ``(B, out, h', w')``.
    """
    operator = _usable(x, "_convolution_pointwise")
    if operator is None:
        y = F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=groups)
        return F.relu(y) if relu else y
    attribute = "relu" if relu else "none"
    return operator(x, weight, bias, [padding] * 2, [stride] * 2, [1, 1], groups, attribute, [], "")


class Linear(nn.Linear):
    """``nn.Linear`` with the faster path; parameters and results are the same up to rounding."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)
