"""Box maths of the detection transformers: formats, generalised IoU, inverse sigmoid."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "cxcywh_to_xyxy",
    "inverse_sigmoid",
    "paired_giou",
    "pairwise_giou",
    "refine_boxes",
    "xyxy_to_cxcywh",
]

MIN_AREA = 1e-9  # of a normalised box; far below one pixel of any image


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre format to corners.

    Args:
        boxes: (..., 4) as centre x, centre y, width, height, in any unit.

    Returns:
        (..., 4) as x1, y1, x2, y2 in the same unit.
    """
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return _join(centre - half, centre + half)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Corners to centre format, the inverse of :func:`cxcywh_to_xyxy`."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return _join((low + high) / 2, high - low)


def _join(first: Tensor, second: Tensor) -> Tensor:
    return torch.cat((first, second), dim=-1)


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Logit of a probability, both of x and 1 - x kept above ``eps``.

    Args:
        x: any shape; values outside [0, 1] count as the nearer end.
        eps: lower bound of numerator and denominator.
    """
    x = x.clamp(0, 1)
    return (x.clamp(min=eps) / (1 - x).clamp(min=eps)).log()


def refine_boxes(offsets: Tensor, reference: Tensor | None) -> Tensor:
    """Boxes from the box head's output and the reference of each query.

    Args:
        offsets: (..., 4) output of the box head before the sigmoid.
        reference: (..., 2) points or (..., 4) boxes in [0, 1] (centre format), broadcast
            over the leading dimensions; None for a transformer without references.

    Returns:
        (..., 4) normalised boxes in centre format (Conditional DETR, section 3.3).
    """
    if reference is None:
        return offsets.sigmoid()
    logit = inverse_sigmoid(reference)
    if reference.shape[-1] == 4:
        return (offsets + logit).sigmoid()
    return _join(offsets[..., :2] + logit, offsets[..., 2:]).sigmoid()


def paired_giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU of boxes pair by pair (Rezatofighi et al., CVPR 2019).

    Args:
        first: (..., 4) corners.
        second: (..., 4) corners, broadcastable with ``first``.

    Returns:
        (...) values in (-1, 1].
    """
    size_a = (first[..., 2:] - first[..., :2]).clamp(min=0)
    size_b = (second[..., 2:] - second[..., :2]).clamp(min=0)
    overlap = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    hull = torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])
    inter = overlap.clamp(min=0).prod(-1)
    union = (size_a.prod(-1) + size_b.prod(-1) - inter).clamp(min=MIN_AREA)
    hull_area = hull.clamp(min=0).prod(-1).clamp(min=MIN_AREA)
    return inter / union - (hull_area - union) / hull_area


def pairwise_giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU of every box with every other.

    Args:
        first: (..., N, 4) corners.
        second: (..., M, 4) corners; leading dimensions broadcast.

    Returns:
        (..., N, M).
    """
    return paired_giou(first.unsqueeze(-2), second.unsqueeze(-3))
