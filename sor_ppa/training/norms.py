"""Batch norms in a training of several processes."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.utils import comm
from torch import nn

__all__ = ["synchronize_norms"]


def synchronize_norms(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return the model with batch norms over the images of all processes, if ``SOLVER.SYNC_BN`` is on.

    On a CPU, which torch's ``SyncBatchNorm`` does not support, detectron2's takes its place.
    """
    if not cfg.SOLVER.SYNC_BN or comm.get_world_size() == 1:
        return model
    if next(model.parameters()).device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = NaiveSyncBatchNorm
            vars(module)["_stats_mode"] = "N"
    return model
