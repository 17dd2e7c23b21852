"""Full precision inside mixed precision, for what decides about scores, boxes and ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["at_least_float32", "full_precision"]


def at_least_float32(x: Tensor) -> Tensor:
    """``x``, in float32 where autocast made it float16 or bfloat16."""
    mixed = x.dtype in (torch.float16, torch.bfloat16) and torch.is_autocast_enabled(x.device.type)
    return x.float() if mixed else x


def full_precision(layer: nn.Module, x: Tensor) -> Tensor:
    """``layer(x)`` in the precision of the layer's parameters, whatever autocast says.

    Under autocast the parameters stay float32, so the result is float32 and not rounded to 11 or 8 bits.

    Args:
        layer: with parameters.
        x: what the layer takes.
    """
    with torch.autocast(x.device.type, enabled=False):
        return layer(x.to(next(layer.parameters()).dtype))
