"""Averages over the processes of distributed training."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

__all__ = ["mean_over_processes"]


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes; the tensor itself if there is one process.

    Distributed training averages gradients over processes. If each process divides its loss by this mean of
    the counts instead of its own count, the gradient is that of the whole batch in one process.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
