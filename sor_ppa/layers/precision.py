"""Full precision inside mixed precision, for values that decide about scores, boxes and ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["at_least_float32", "fast_bfloat16", "full_precision"]


def at_least_float32(x: Tensor) -> Tensor:
    """Return ``x``, as float32 if autocast made it float16 or bfloat16."""
    mixed = x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(x.device.type)
    return x.float() if mixed else x


def full_precision(layer: nn.Module, x: Tensor) -> Tensor:
    """Return ``layer(x)``, computed without autocast in the precision of the layer's parameters.

    Args:
        layer: with parameters.
        x: input of the layer.
    """
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(next(layer.parameters()).dtype))


def fast_bfloat16(device: torch.device) -> bool:
    """Return whether the device computes bfloat16 faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and supported is not None and bool(supported())
