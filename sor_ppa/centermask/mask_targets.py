"""Mask losses and their targets, from polygons or bitmasks."""

from __future__ import annotations

import numpy as np
import pycocotools.mask as mask_utils
import torch
from detectron2.layers import ROIAlign
from detectron2.structures import BitMasks, PolygonMasks
from torch import Tensor
from torch.nn import functional as F

from ..layers import mean_over_processes

__all__ = ["crop_masks", "mask_iou_targets", "mask_loss", "visible_fractions"]


def crop_masks(masks: PolygonMasks | BitMasks, index: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Return the masks of objects inside boxes, on a square grid.

    Args:
        masks: of the G objects of an image.
        index: (N,) int64, the object that each box belongs to.
        boxes: (N, 4) XYXY in pixels.
        side: S of the grid.

    Returns:
        (N, S, S) bool on the device of ``boxes``.
    """
    if len(index) == 0:
        return torch.zeros((0, side, side), dtype=torch.bool, device=boxes.device)
    if isinstance(masks, BitMasks):
        # ROIAlign reads the mask by index: no copy of a full-size mask per box
        rois = torch.cat([index[:, None].to(boxes.dtype), boxes], dim=1)
        planes = masks.tensor.to(device=boxes.device, dtype=torch.float32)[:, None]
        return ROIAlign((side, side), 1.0, 0, aligned=True)(planes, rois).squeeze(1) >= 0.5
    return masks[index].crop_and_resize(boxes, side).to(device=boxes.device)


def visible_fractions(masks: PolygonMasks | BitMasks, index: Tensor, boxes: Tensor) -> Tensor:
    """Return the fraction of each object's area that lies inside its box.

    Polygons are measured as in the published code: the area inside the box by rasterizing on a canvas of
    the box's size, rounded down; the whole area by the polygons' formula.

    Args:
        masks: of the G objects of an image.
        index: (N,) int64, the object that each box belongs to.
        boxes: (N, 4) XYXY in pixels.

    Returns:
        (N,) float64 in [0, 1] on the device of ``boxes``.
    """
    if len(index) == 0:
        return boxes.new_zeros(0, dtype=torch.float64)
    if isinstance(masks, BitMasks):
        inside, whole = _bitmask_areas(masks.tensor.to(boxes.device), index, boxes)
    else:
        rows = zip(index.tolist(), boxes.detach().cpu().numpy(), strict=True)
        areas = [_polygon_area_inside(masks.polygons[g], box) for g, box in rows]
        inside = boxes.new_tensor(areas, dtype=torch.float64)
        whole = masks.area().to(device=boxes.device, dtype=torch.float64)[index]
    return (inside / whole.clamp(min=1e-10)).clamp(0.0, 1.0)


def _polygon_area_inside(polygons: list[np.ndarray], box: np.ndarray) -> float:
    width, height = int(box[2] - box[0]), int(box[3] - box[1])
    if width < 1 or height < 1:
        return 0.0
    moved = [(p.reshape(-1, 2) - box[:2]).ravel() for p in polygons]
    return float(mask_utils.area(mask_utils.frPyObjects(moved, height, width)).sum())


def _bitmask_areas(planes: Tensor, index: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Count the pixels whose center lies in each box, by a summed-area table, and all pixels."""
    height, width = planes.shape[-2:]
    table = F.pad(planes.to(torch.int64).cumsum(1).cumsum(2), (1, 0, 1, 0))
    corner = torch.ceil(boxes - 0.5).to(torch.int64)
    x = corner[:, 0::2].clamp(0, width)
    y = corner[:, 1::2].clamp(0, height)
    inside = (
        table[index, y[:, 1], x[:, 1]]
        - table[index, y[:, 0], x[:, 1]]
        - table[index, y[:, 1], x[:, 0]]
        + table[index, y[:, 0], x[:, 0]]
    )
    return inside.to(torch.float64), table[index, -1, -1].to(torch.float64)


def mask_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the binary cross-entropy averaged over all pixels; zero, with gradients, without masks.

    Args:
        logits: (N, S, S).
        targets: (N, S, S) bool.
    """
    number = mean_over_processes(logits.new_tensor(float(logits.numel())))
    total = F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="sum")
    return total / number.clamp(min=1.0)


def mask_iou_targets(logits: Tensor, targets: Tensor, fractions: Tensor) -> Tensor:
    """Return the IoU of each predicted mask with its whole object (Huang et al., Mask Scoring R-CNN).

    Args:
        logits: (N, S, S).
        targets: (N, S, S) bool, the part of the object inside the box.
        fractions: (N,) float64 of :func:`visible_fractions`.

    Returns:
        (N,) float64, without gradients.
    """
    pred = logits.detach() > 0
    whole = targets.sum(dim=(1, 2)) / fractions.clamp(min=1e-10)
    overlap = (pred & targets).sum(dim=(1, 2))
    union = (pred.sum(dim=(1, 2)) + whole - overlap).clamp(min=1.0)
    return overlap / union
