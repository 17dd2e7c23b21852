"""Averages over the processes of distributed training, and tensors that are split among them."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor

__all__ = ["gathered", "is_split", "local_part", "mean_over_processes", "split_like"]


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


def is_split(tensor: Tensor) -> bool:
    """Return whether FSDP has split a tensor among the processes."""
    return hasattr(tensor, "device_mesh")  # of a DTensor, whose import takes time


def local_part(tensor: Any) -> Tensor:
    """Return the part of a tensor that this process holds; the tensor itself if it is not split."""
    part: Tensor = tensor.to_local() if is_split(tensor) else tensor
    return part


def gathered(tensor: Any) -> Tensor:
    """Return a split tensor whole, on the CPU, and others as they are. All processes must call."""
    found: Tensor = tensor.full_tensor().cpu() if is_split(tensor) else tensor
    return found


def split_like(tensor: Tensor, other: Any) -> Tensor:
    """Return a whole tensor, the same in all processes, split as another of its shape, if that is split."""
    if not is_split(other) or tensor.shape != other.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    here = tensor.to(other.device)
    return distribute_tensor(here, other.device_mesh, other.placements, src_data_rank=None)
