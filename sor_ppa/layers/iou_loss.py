"""Losses between boxes given as distances from one location to the four sides."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LOC_LOSSES", "distance_iou_loss"]

LOC_LOSSES = ("iou", "linear_iou", "giou")


def distance_iou_loss(
    pred: Tensor, target: Tensor, weight: Tensor | None = None, kind: str = "giou"
) -> Tensor:
    """IoU losses of UnitBox and FCOS, with the generalised IoU of Rezatofighi et al.

    Each row holds the distances (left, top, right, bottom) of one location. The IoU is
    smoothed by one unit of area in numerator and denominator; the enclosing-box term of
    the generalised IoU is not.

    Args:
        pred, target: (N, 4) non-negative distances in one common unit.
        weight: (N,) factors, or None for ones.
        kind: "iou" (-log IoU), "linear_iou" (1 - IoU) or "giou" (1 - GIoU).

    Returns:
        Scalar: the weighted sum over rows.

    Raises:
        ValueError: for an unknown ``kind``.
    """
    if kind not in LOC_LOSSES:
        raise ValueError(f"box loss: unknown kind {kind!r}, expected one of {', '.join(LOC_LOSSES)}")
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
