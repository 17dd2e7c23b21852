"""Box formats, overlaps and refinement of normalized boxes."""

from __future__ import annotations

import torch
from torch import Tensor

#: Lower limit of a union or hull: far less than a pixel of any image in normalized coordinates.
MIN_AREA = 1e-9


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Convert ``(..., 4)`` boxes from (cx, cy, w, h) to (x1, y1, x2, y2), in the same unit."""
    cx, cy, w, h = boxes.unbind(-1)
    return torch.stack([cx - 0.5 * w, cy - 0.5 * h, cx + 0.5 * w, cy + 0.5 * h], dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Convert ``(..., 4)`` boxes from (x1, y1, x2, y2) to (cx, cy, w, h), in the same unit."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], dim=-1)


def inverse_sigmoid(x: Tensor, eps: float) -> Tensor:
    """Return ``log(max(x, eps) / max(1 - x, eps))`` of ``x`` clamped to [0, 1], any shape.

    ``eps`` is 1e-3 in Salience-DETR and 1e-5 in Deformable DETR.
    """
    x = x.clamp(0.0, 1.0)
    return torch.log(x.clamp(min=eps) / (1.0 - x).clamp(min=eps))


def refine_boxes(offsets: Tensor, reference: Tensor | None, eps: float = 1e-5) -> Tensor:
    """Return normalized boxes (cx, cy, w, h) of queries with references (Conditional DETR, section 3.3).

    Args:
        offsets: ``(..., 4)`` output of the box head before the sigmoid.
        reference: ``(..., 2)`` points or ``(..., 4)`` boxes (cx, cy, w, h) in [0, 1]; leading axes broadcast;
            None for a transformer without references.
        eps: of :func:`inverse_sigmoid`.
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
    """Return intersection and union (at least :data:`MIN_AREA`)."""
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    intersection = _area(size)
    areas = [_area((box[..., 2:] - box[..., :2]).clamp(min=0)) for box in (a, b)]
    return intersection, (areas[0] + areas[1] - intersection).clamp(min=MIN_AREA)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU ``(...)`` of boxes ``(..., 4)`` in corner format that broadcast; 0 if both are empty."""
    intersection, union = _overlap(a, b)
    return intersection / union


def paired_giou(a: Tensor, b: Tensor) -> Tensor:
    """Return the generalized IoU in [-1, 1] (Rezatofighi et al., CVPR 2019, equation 1).

    Args:
        a: ``(..., 4)`` corner format; insert an axis to compare all pairs.
        b: ``(..., 4)`` corner format, broadcast against ``a``.
    """
    intersection, union = _overlap(a, b)
    hull_size = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = _area(hull_size.clamp(min=0)).clamp(min=MIN_AREA)
    return intersection / union - (hull - union) / hull
