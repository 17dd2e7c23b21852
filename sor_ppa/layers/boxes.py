"""Box maths on tensors: formats, overlaps and the logit of a box."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "cxcywh_to_xyxy",
    "inverse_sigmoid",
    "paired_giou",
    "paired_iou",
    "pairwise_giou",
    "pairwise_iou",
    "xyxy_to_cxcywh",
]


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre format to corner format.

    Args:
        boxes: ``(..., 4)`` as (cx, cy, w, h), in any unit.

    Returns:
        ``(..., 4)`` as (x1, y1, x2, y2), in the same unit.
    """
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corner format to centre format; the inverse of :func:`cxcywh_to_xyxy`.

    Args:
        boxes: ``(..., 4)`` as (x1, y1, x2, y2), in any unit.

    Returns:
        ``(..., 4)`` as (cx, cy, w, h), in the same unit.
    """
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)


def inverse_sigmoid(x: Tensor, eps: float = 1e-3) -> Tensor:
    """The logit of ``x``, with ``x`` limited to [0, 1] and both odds' terms to at least ``eps``.

    Args:
        x: probabilities or normalised coordinates, any shape.
        eps: lower limit of ``x`` and of ``1 - x`` (1e-3 in Salience-DETR, 1e-5 in Deformable DETR).

    Returns:
        ``log(max(x, eps) / max(1 - x, eps))``, the shape of ``x``.
    """
    x = x.clamp(0.0, 1.0)
    return torch.log(x.clamp(min=eps) / (1.0 - x).clamp(min=eps))


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union of boxes that broadcast against each other."""
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    intersection = size[..., 0] * size[..., 1]
    return intersection, _area(a) + _area(b) - intersection


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast against each other.

    Args:
        a: ``(..., 4)`` corner format.
        b: ``(..., 4)`` corner format, broadcastable to ``a``.

    Returns:
        the IoU in [0, 1], the broadcast shape without its last axis; 0 for two empty boxes.
    """
    intersection, union = _overlap(a, b)
    return torch.where(union > 0, intersection / union.clamp(min=torch.finfo(union.dtype).tiny), 0.0)


def paired_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of boxes that broadcast against each other (Rezatofighi et al., CVPR 2019, eq. 1).

    Args:
        a: ``(..., 4)`` corner format.
        b: ``(..., 4)`` corner format, broadcastable to ``a``.

    Returns:
        the GIoU in [-1, 1], the broadcast shape without its last axis.
    """
    intersection, union = _overlap(a, b)
    tiny = torch.finfo(union.dtype).tiny
    hull_size = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = hull_size[..., 0] * hull_size[..., 1]
    return intersection / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of ``a`` ``(N, 4)`` with every box of ``b`` ``(M, 4)``: ``(N, M)``, corner format."""
    return paired_iou(a[:, None], b[None])


def pairwise_giou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of every box of ``a`` ``(N, 4)`` with every box of ``b`` ``(M, 4)``: ``(N, M)``, corner format."""
    return paired_giou(a[:, None], b[None])
