"""Tuning a finished model for inference.

Layers stay plain PyTorch; everything that only makes prediction faster is in :func:`tune_for_inference`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = ["fold_for_inference", "keep_free_memory", "release_free_memory", "tune_for_inference"]

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # options of mallopt
_NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d, nn.SyncBatchNorm)


@torch.no_grad()
def fold_for_inference(model: nn.Module) -> nn.Module:
    """Merge layers of a model with loaded weights, in place; outputs stay equal up to rounding.

    Normalizations are folded into the convolutions before them, and modules with a method
    ``reparameterize()`` merge their branches. Names of parameters change, so load weights before; the model
    cannot be trained afterwards.

    Pairs of convolution and normalization are found in ``nn.Sequential``, in detectron2's ``Conv2d``, and
    in modules with an attribute ``conv_norm_pairs``, a sequence of pairs of submodule names.

    Args:
        model: any module; it is set to evaluation mode.

    Returns:
        ``model``.
    """
    model.eval().requires_grad_(False)
    for module in list(model.modules()):
        for conv_name, norm_name in _pairs(module):
            _fold(module, conv_name, norm_name)
    for module in list(model.modules()):
        if callable(merge := getattr(module, "reparameterize", None)):
            merge()
    return model


@torch.no_grad()
def tune_for_inference(model: nn.Module) -> nn.Module:
    """Make a model with loaded weights faster in inference, in place; outputs stay equal up to rounding.

    Layers are merged by :func:`fold_for_inference`. On a CPU, kernels get the channels-last layout, which
    convolutions pass on to their outputs, and linear layers run through oneDNN.

    Args:
        model: any module; it is set to evaluation mode.

    Returns:
        ``model``.
    """
    fold_for_inference(model)
    parameter = next(model.parameters(), None)
    if parameter is not None and parameter.device.type == "cpu":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
                # No effect on the result. PyTorch calls oneDNN for it, instead of MKL (see _OneDNNLinear).
                module.dilation = (2, 2)
            elif type(module) is nn.Linear and torch.backends.mkldnn.is_available():
                module.__class__ = _OneDNNLinear
    return model


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of each convolution below a module and of the module that directly follows it."""
    if isinstance(module, Conv2d) and module.norm is not None:
        yield "", "norm"
    elif isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
        children = dict(module.named_children())
        yield from (pair for pair in pairwise(children) if type(children[pair[0]]) is nn.Conv2d)
    yield from getattr(module, "conv_norm_pairs", ())


def _fold(module: nn.Module, conv_name: str, norm_name: str) -> None:
    conv: nn.Module = module.get_submodule(conv_name)
    norm: Any = module.get_submodule(norm_name)
    if type(norm) not in _NORMS or norm.running_mean is None or not isinstance(conv, nn.Conv2d):
        return
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    module.set_submodule(norm_name, nn.Identity())


class _OneDNNLinear(nn.Linear):
    """``nn.Linear`` by oneDNN in float32 inference.

    PyTorch calls MKL for it, which takes 10 to 20 percent longer on AMD processors.
    """

    def forward(self, input: Tensor) -> Tensor:
        if (
            torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or input.dtype != torch.float32
            or not input.numel()
        ):
            return super().forward(input)
        # oneDNN's fast kernels take dense operands only.
        return torch.ops.mkldnn._linear_pointwise(input.contiguous(), self.weight, self.bias, "none", [], "")


def keep_free_memory() -> None:
    """Let this process keep freed memory, where the C library is glibc.

    Otherwise every iteration of a training gets its gigabytes of features as new pages, which the system must
    fill with zeros first.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)


def release_free_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    Pictures of mixed sizes leave gaps in the heap: without this call, a process that has ranked hundreds of
    them holds about twice the memory that it needs.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
