"""IoU losses for boxes given as distances from a location to their four sides."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LOC_LOSSES", "distance_iou_loss"]

LOC_LOSSES = ("iou", "linear_iou", "giou")


def distance_iou_loss(
    pred: Tensor, target: Tensor, weight: Tensor | None = None, kind: str = "giou"
) -> Tensor:
    """Return the IoU loss of UnitBox and FCOS, or that of the generalized IoU (Rezatofighi et al.).

    Each row holds the distances (left, top, right, bottom) of one location. One unit of area is added to
    numerator and denominator of the IoU, but not to the enclosing-box term of the generalized IoU.

    Args:
        pred, target: (N, 4) non-negative distances in one common unit.
        weight: (N,) factors, or None for ones.
        kind: "iou" (-log IoU), "linear_iou" (1 - IoU) or "giou" (1 - GIoU).

    Returns:
        Scalar: the weighted sum over rows.
    """
    assert kind in LOC_LOSSES, kind
    pred_area = (pred[:, 0] + pred[:, 2]) * (pred[:, 1] + pred[:, 3])
    target_area = (target[:, 0] + target[:, 2]) * (target[:, 1] + target[:, 3])
    inner, outer = torch.minimum(pred, target), torch.maximum(pred, target)
    intersection = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    union = pred_area + target_area - intersection
    iou = (intersection + 1.0) / (union + 1.0)
    if kind == "iou":
        loss = -torch.log(iou)
    elif kind == "linear_iou":
        loss = 1 - iou
    else:
        hull = (outer[:, 0] + outer[:, 2]) * (outer[:, 1] + outer[:, 3])
        loss = 1 - (iou - (hull - union) / hull)
    return loss.sum() if weight is None else (loss * weight).sum()
