"""Targets and losses of FCOS (Tian et al., ICCV 2019).

Locations of all levels form one axis (level after level, row-major). The images of a batch are padded to
a common number of objects and processed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fvcore.nn import sigmoid_focal_loss
from torch import Tensor
from torch.nn import functional as F

from ..layers import distance_iou_loss, mean_over_processes

__all__ = ["FCOSTargets", "assign_targets", "centerness_targets", "fcos_losses", "level_locations"]

_INFINITE = 1e8


@dataclass(frozen=True)
class FCOSTargets:
    """What the locations of a batch learn.

    Attributes:
        labels: (B, L) int64 class of each location; the number of classes means background.
        distances: (B, L, 4) left, top, right, bottom in units of the level's stride.
    """

    labels: Tensor
    distances: Tensor


def level_locations(size: tuple[int, int], stride: int, device: torch.device) -> Tensor:
    """Return the centers (x, y) in pixels of the cells of a level, (H * W, 2) for a size (H, W)."""
    y = torch.arange(size[0], device=device, dtype=torch.float32) * stride + stride // 2
    x = torch.arange(size[1], device=device, dtype=torch.float32) * stride + stride // 2
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).reshape(-1, 2)


def assign_targets(
    locations: Sequence[Tensor],
    strides: Sequence[int],
    size_limits: Sequence[float],
    gt_boxes: Sequence[Tensor],
    gt_classes: Sequence[Tensor],
    num_classes: int,
    radius: float | None,
) -> FCOSTargets:
    """Assign to each location the smallest object that it may learn.

    A location may learn an object if it lies strictly inside the sampling region (the box, or
    with ``radius`` the square of that many strides around its center, clipped to the box) and
    if the largest of its four distances lies within the limits of its level, ends included.

    Args:
        locations: per level (H_l * W_l, 2) from :func:`level_locations`.
        strides: per level, in pixels.
        size_limits: upper limit in pixels of every level but the last.
        gt_boxes: per image (G_i, 4) XYXY in pixels.
        gt_classes: per image (G_i,) int64.
        num_classes: foreground classes.
        radius: center sampling radius in strides; None for the whole box.

    Returns:
        Targets over all levels.
    """
    points = torch.cat(list(locations))
    lengths = torch.tensor([len(part) for part in locations], device=points.device)
    stride = torch.tensor(strides, device=points.device, dtype=torch.float32).repeat_interleave(lengths)
    bounds = points.new_tensor([-1.0, *size_limits, _INFINITE])
    low, high = bounds[:-1].repeat_interleave(lengths), bounds[1:].repeat_interleave(lengths)

    batch, most = len(gt_boxes), max((len(b) for b in gt_boxes), default=0)
    if most == 0:
        labels = torch.full((batch, len(points)), num_classes, dtype=torch.int64, device=points.device)
        return FCOSTargets(labels, points.new_zeros((batch, len(points), 4)))
    boxes = points.new_zeros((batch, most, 4))
    classes = torch.full((batch, most), num_classes, dtype=torch.int64, device=points.device)
    for i, (b, c) in enumerate(zip(gt_boxes, gt_classes, strict=True)):
        boxes[i, : len(b)] = b
        classes[i, : len(c)] = c

    # (B, L, G) from here on; padding objects have no area, so no location is inside them
    x, y = points[None, :, None].unbind(dim=-1)
    x1, y1, x2, y2 = boxes[:, None].unbind(dim=-1)
    distances = torch.stack([x - x1, y - y1, x2 - x, y2 - y], dim=-1)
    if radius is None:
        inside = distances.amin(dim=-1) > 0
    else:
        reach = (stride * radius)[None, :, None]
        cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
        inside = (
            (x > torch.maximum(cx - reach, x1))
            & (y > torch.maximum(cy - reach, y1))
            & (x < torch.minimum(cx + reach, x2))
            & (y < torch.minimum(cy + reach, y2))
        )
    largest = distances.amax(dim=-1)
    allowed = inside & (largest >= low[None, :, None]) & (largest <= high[None, :, None])
    area = ((x2 - x1) * (y2 - y1)).masked_fill(~allowed, _INFINITE)
    smallest, index = area.min(dim=-1)
    labels = classes.gather(1, index).masked_fill(smallest == _INFINITE, num_classes)
    chosen = distances.gather(2, index[..., None, None].expand(-1, -1, 1, 4)).squeeze(2)
    return FCOSTargets(labels, chosen / stride[None, :, None])


def centerness_targets(distances: Tensor) -> Tensor:
    """Return the centerness (N,) of locations with distances (N, 4) to the sides of their box (eq. 3)."""
    x, y = distances[:, 0::2], distances[:, 1::2]
    return torch.sqrt((x.amin(dim=1) / x.amax(dim=1)) * (y.amin(dim=1) / y.amax(dim=1)))


def fcos_losses(
    logits: Tensor,
    distances: Tensor,
    centerness: Tensor,
    targets: FCOSTargets,
    *,
    alpha: float,
    gamma: float,
    loc_loss: str,
) -> dict[str, Tensor]:
    """Return the focal, box and centerness losses of a batch.

    Args:
        logits: (B, L, C) class logits.
        distances: (B, L, 4) predicted distances in strides.
        centerness: (B, L) centerness logits.
        targets: of :func:`assign_targets`.
        alpha, gamma: of the focal loss.
        loc_loss: see :func:`sor_ppa.layers.distance_iou_loss`.

    Returns:
        ``loss_fcos_cls``, ``loss_fcos_loc`` and ``loss_fcos_ctr``, normalized by the number of
        positives (the box loss by their summed centerness) averaged over processes.
    """
    num_classes = logits.shape[-1]
    positive = targets.labels != num_classes
    one_hot = F.one_hot(targets.labels, num_classes + 1)[..., :-1].to(logits.dtype)
    goal = targets.distances[positive]
    center = centerness_targets(goal)
    count, weight = mean_over_processes(torch.stack([positive.sum().to(center.dtype), center.sum()]))
    count = count.clamp(min=1.0)
    focal = sigmoid_focal_loss(logits, one_hot, alpha=alpha, gamma=gamma, reduction="sum")
    box = distance_iou_loss(distances[positive], goal, center, loc_loss)
    ctr = F.binary_cross_entropy_with_logits(centerness[positive], center, reduction="sum")
    return {
        "loss_fcos_cls": focal / count,
        "loss_fcos_loc": box / weight.clamp(min=1e-6),
        "loss_fcos_ctr": ctr / count,
    }
