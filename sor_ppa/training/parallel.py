"""Several processes that train one model."""

from __future__ import annotations

import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.engine.defaults import create_ddp_model
from detectron2.utils import comm
from torch import nn

__all__ = ["replicate", "share_buffers", "split_parameters", "splits_parameters"]


def splits_parameters(cfg: CfgNode) -> bool:
    """Return whether each process keeps only a part of the parameters, ``SOLVER.PARALLEL`` "fsdp"."""
    return bool(cfg.SOLVER.PARALLEL == "fsdp" and comm.get_world_size() > 1)


def replicate(model: nn.Module) -> nn.Module:
    """Return the model with gradients averaged over the processes; itself if there is one process."""
    ids = {"device_ids": None} if next(model.parameters()).device.type == "cpu" else {}
    replicated: nn.Module = create_ddp_model(model, broadcast_buffers=False, **ids)
    return replicated


def split_parameters(model: nn.Module) -> nn.Module:
    """Split parameters, gradients and the state of an optimizer that is built afterwards among the processes.

    The parameters are gathered before each forward pass. Checkpoints are whole: see ``SORCheckpointer.save``.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for tensor in model.state_dict().values():  # each process has drawn its own
        dist.broadcast(tensor, src=0)
    mesh = init_device_mesh(next(model.parameters()).device.type, (comm.get_world_size(),))
    fully_shard(model, mesh=mesh)  # in place
    return model


def share_buffers(model: nn.Module) -> None:
    """Copy the running statistics of the first process, which are those in checkpoints, to all others."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
