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
    "refine_boxes",
    "xyxy_to_cxcywh",
]

#: A union or hull below it counts as this: far less than a pixel of any image in normalised coordinates.
MIN_AREA = 1e-9


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


def inverse_sigmoid(x: Tensor, eps: float) -> Tensor:
    """The logit of ``x``, with ``x`` limited to [0, 1] and both odds' terms to at least ``eps``.

    Args:
        x: probabilities or normalised coordinates, any shape.
        eps: lower limit of ``x`` and of ``1 - x`` (1e-3 in Salience-DETR, 1e-5 in Deformable DETR).

    Returns:
        ``log(max(x, eps) / max(1 - x, eps))``, the shape of ``x``.
    """
    x = x.clamp(0.0, 1.0)
    return torch.log(x.clamp(min=eps) / (1.0 - x).clamp(min=eps))


def refine_boxes(offsets: Tensor, reference: Tensor | None, eps: float = 1e-5) -> Tensor:
    """Boxes from a box head's output and the reference of each query (Conditional DETR, section 3.3).

    Args:
        offsets: ``(..., 4)`` output of the box head before the sigmoid.
        reference: ``(..., 2)`` points or ``(..., 4)`` boxes (cx, cy, w, h) in [0, 1]; leading axes broadcast;
            None for a transformer without references.
        eps: of :func:`inverse_sigmoid`.

    Returns:
        ``(..., 4)`` normalised (cx, cy, w, h).
    """
    if reference is None:
        return offsets.sigmoid()
    logit = inverse_sigmoid(reference, eps)
    if reference.shape[-1] == 4:
        return (offsets + logit).sigmoid()
    return torch.cat([offsets[..., :2] + logit, offsets[..., 2:]], dim=-1).sigmoid()


def _area(size: Tensor) -> Tensor:
    return size[..., 0] * size[..., 1]


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection and union, at least :data:`MIN_AREA`, of boxes that broadcast against each other."""
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    intersection = _area(size)
    areas = [_area((box[..., 2:] - box[..., :2]).clamp(min=0)) for box in (a, b)]
    return intersection, (areas[0] + areas[1] - intersection).clamp(min=MIN_AREA)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast against each other.

    Args:
        a: ``(..., 4)`` corner format.
        b: ``(..., 4)`` corner format, broadcastable to ``a``.

    Returns:
        the IoU in [0, 1], the broadcast shape without its last axis; 0 for two empty boxes.
    """
    intersection, union = _overlap(a, b)
    return intersection / union


def paired_giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of boxes that broadcast against each other (Rezatofighi et al., CVPR 2019, eq. 1).

    Args:
        a: ``(..., 4)`` corner format.
        b: ``(..., 4)`` corner format, broadcastable to ``a``.

    Returns:
        the GIoU in [-1, 1], the broadcast shape without its last axis.
    """
    intersection, union = _overlap(a, b)
    hull_size = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = _area(hull_size.clamp(min=0)).clamp(min=MIN_AREA)
    return intersection / union - (hull - union) / hull


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of ``a`` with every box of ``b``.

    Args:
        a: ``(..., N, 4)`` corner format.
        b: ``(..., M, 4)`` corner format; leading axes broadcast.

    Returns:
        ``(..., N, M)``.
    """
    return paired_iou(a.unsqueeze(-2), b.unsqueeze(-3))


def pairwise_giou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU of every box with every other; shapes as in :func:`pairwise_iou`."""
    return paired_giou(a.unsqueeze(-2), b.unsqueeze(-3))
