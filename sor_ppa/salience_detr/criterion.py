"""Training targets and losses: detection, denoising and salience."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from detectron2.utils import comm
from torch import Tensor
from torch.nn import functional as F

from sor_ppa.layers.boxes import cxcywh_to_xyxy, paired_giou, paired_iou
from sor_ppa.layers.detr_losses import soft_focal_loss, varifocal_loss
from sor_ppa.layers.detr_matcher import HungarianMatcher

from .denoising import DenoisingQueries
from .levels import Levels
from .transformer import TransformerOutput

__all__ = ["DetectionCriterion", "SalienceCriterion", "Targets", "salience_targets"]

Pairs = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Targets:
    """The objects of a batch."""

    #: per image ``(T_b,)`` int64.
    labels: Sequence[Tensor]
    #: per image ``(T_b, 4)`` normalised (cx, cy, w, h) of the unpadded image.
    boxes: Sequence[Tensor]

    def mean_count(self, device: torch.device) -> Tensor:
        """Objects per process, at least 1: the normaliser of the losses."""
        count = torch.tensor(float(sum(len(labels) for labels in self.labels)), device=device)
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(count)
        return (count / comm.get_world_size()).clamp(min=1.0)


@dataclass(frozen=True)
class DetectionCriterion:
    """Varifocal, L1 and GIoU losses of matched predictions (Salience-DETR, 3.5).

    Args:
        matcher: assigns objects to predictions.
        weights: weight of ``class``, ``bbox`` and ``giou``.
        alpha: balance of the varifocal loss.
        gamma: exponent of the varifocal loss.
    """

    matcher: HungarianMatcher = field(default_factory=HungarianMatcher)
    weights: Mapping[str, float] = field(default_factory=lambda: {"class": 1.0, "bbox": 5.0, "giou": 2.0})
    alpha: float = 0.25
    gamma: float = 2.0

    def losses(
        self, logits: Tensor, boxes: Tensor, targets: Targets, pairs: Pairs, normaliser: Tensor
    ) -> dict[str, Tensor]:
        """Unweighted losses of one set of predictions.

        Args:
            logits: ``(B, Q, K)``.
            boxes: ``(B, Q, 4)`` normalised (cx, cy, w, h).
            targets: the objects.
            pairs: per image (prediction index, object index).
            normaliser: scalar that all sums are divided by.

        Returns:
            ``loss_class``, ``loss_bbox``, ``loss_giou``: scalars.
        """
        device = logits.device
        image = torch.cat([p.new_full((len(p),), i) for i, (p, _) in enumerate(pairs)]).to(device)
        query = torch.cat([p for p, _ in pairs]).to(device)
        gt_boxes = torch.cat([t[g.to(device)] for t, (_, g) in zip(targets.boxes, pairs, strict=True)])
        gt_labels = torch.cat([t[g.to(device)] for t, (_, g) in zip(targets.labels, pairs, strict=True)])
        matched = boxes[image, query]
        corners, gt_corners = cxcywh_to_xyxy(matched), cxcywh_to_xyxy(gt_boxes)
        iou = paired_iou(corners.detach(), gt_corners)
        quality = torch.full_like(logits, -1.0, requires_grad=False)
        quality[image, query, gt_labels] = iou.to(quality.dtype)
        return {
            "loss_class": varifocal_loss(logits, quality, self.alpha, self.gamma) / normaliser,
            "loss_bbox": F.l1_loss(matched, gt_boxes, reduction="sum") / normaliser,
            "loss_giou": (1 - paired_giou(corners, gt_corners)).sum() / normaliser,
        }

    def __call__(
        self, output: TransformerOutput, targets: Targets, denoising: DenoisingQueries | None
    ) -> dict[str, Tensor]:
        """Weighted losses of all decoder layers, of the encoder's proposals and of the denoising queries.

        Returns:
            ``loss_class``, ``loss_bbox``, ``loss_giou`` of the last layer; with ``_i`` of layer i,
            ``_enc`` of the proposals, ``_dn`` and ``_dn_i`` of the denoising queries.
        """
        normaliser = targets.mean_count(output.logits.device)
        extra = 0 if denoising is None else denoising.groups * denoising.slots
        matching_logits, matching_boxes = output.logits[:, :, extra:], output.boxes[:, :, extra:]
        logits = [*matching_logits.unbind(0), output.proposals.logits]
        boxes = [*matching_boxes.unbind(0), output.proposals.boxes]
        pairs = self.matcher(
            torch.stack(logits).detach(), torch.stack(boxes).detach(), targets.labels, targets.boxes
        )
        last = len(matching_logits) - 1
        suffixes = [*(f"_{i}" for i in range(last)), "", "_enc"]
        losses: dict[str, Tensor] = {}
        for i, suffix in enumerate(suffixes):
            self._add(losses, suffix, logits[i], boxes[i], targets, pairs[i], normaliser)
        if denoising is not None:
            known = denoising_pairs(targets, denoising)
            for i in range(last + 1):
                suffix = "_dn" if i == last else f"_dn_{i}"
                self._add(
                    losses,
                    suffix,
                    output.logits[i, :, :extra],
                    output.boxes[i, :, :extra],
                    targets,
                    known,
                    normaliser * denoising.groups,
                )
        return losses

    def _add(
        self,
        losses: dict[str, Tensor],
        suffix: str,
        logits: Tensor,
        boxes: Tensor,
        targets: Targets,
        pairs: Pairs,
        normaliser: Tensor,
    ) -> None:
        for name, loss in self.losses(logits, boxes, targets, pairs, normaliser).items():
            losses[name + suffix] = loss * self.weights[name.removeprefix("loss_")]


def denoising_pairs(targets: Targets, denoising: DenoisingQueries) -> Pairs:
    """The known assignment: positive k of every group belongs to object k."""
    pairs = []
    for labels in targets.labels:
        objects = torch.arange(len(labels), device=labels.device)
        start = torch.arange(denoising.groups, device=labels.device) * denoising.slots
        pairs.append(((start[:, None] + objects).flatten(), objects.repeat(denoising.groups)))
    return pairs


@torch.no_grad()
def salience_targets(
    levels: Levels,
    strides: Sequence[tuple[float, float]],
    boxes: Sequence[Tensor],
    limits: Sequence[float],
) -> Tensor:
    """Scale-independent salience of every token (Salience-DETR, eq. 3).

    A token is positive at its level if its centre lies in a box whose farthest side is within the level's
    range. Its value is then the highest ``1 - sqrt(dx^2 + dy^2) / 2`` over all boxes around the centre,
    dx and dy being its offsets from the box centre in halves of the box's sides.

    Args:
        levels: geometry of the batch.
        strides: (y, x) pixels per cell of every level.
        boxes: per image ``(T_b, 4)`` corner format in pixels.
        limits: upper end, in pixels, of the range of every level but the last.

    Returns:
        ``(B, S)`` float32 in [0, 1].
    """
    device = levels.valid_ratios.device
    xs, ys, lows, highs = [], [], [], []
    bounds = [-1.0, *limits, 99999.0]
    for level, ((h, w), (stride_y, stride_x)) in enumerate(zip(levels.shapes, strides, strict=True)):
        y = (torch.arange(h, dtype=torch.float32, device=device) + 0.5) * stride_y
        x = (torch.arange(w, dtype=torch.float32, device=device) + 0.5) * stride_x
        ys.append(y.repeat_interleave(w))
        xs.append(x.repeat(h))
        lows.append(torch.full((h * w,), bounds[level], device=device))
        highs.append(torch.full((h * w,), bounds[level + 1], device=device))
    x, y, low, high = (torch.cat(parts).unsqueeze(1) for parts in (xs, ys, lows, highs))
    rows = []
    for image_boxes in boxes:
        if len(image_boxes) == 0:
            rows.append(torch.zeros(len(x), device=device))
            continue
        left, top = x - image_boxes[:, 0], y - image_boxes[:, 1]
        right, bottom = image_boxes[:, 2] - x, image_boxes[:, 3] - y
        sides = torch.stack([left, top, right, bottom])
        inside = sides.amin(0) > 0  # (S, T)
        farthest = sides.amax(0)
        positive = (inside & (farthest > low) & (farthest <= high)).any(1)
        dx, dy = (left - right) / (left + right), (top - bottom) / (top + bottom)
        value = (1 - torch.sqrt(dx**2 + dy**2) / 2).masked_fill(~inside, 0.0).amax(1)
        rows.append(value.masked_fill(~positive, 0.0))
    return torch.stack(rows)


@dataclass(frozen=True)
class SalienceCriterion:
    """Soft focal loss of the salience logits of all levels (Salience-DETR, eq. 4).

    Args:
        limits: upper end, in pixels, of the range of every level but the last.
        weight: weight of the loss.
        alpha: balance of the focal loss.
        gamma: exponent of the focal loss.
    """

    limits: Sequence[float] = (64.0, 128.0, 256.0)
    weight: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0

    def __call__(
        self,
        logits: Sequence[Tensor],
        levels: Levels,
        targets: Targets,
        image_sizes: Sequence[tuple[int, int]],
        strides: Sequence[tuple[float, float]],
    ) -> dict[str, Tensor]:
        """The weighted loss, summed over all tokens and divided by the number of positive ones.

        Args:
            logits: per level ``(B, 1, h, w)``.
            levels: geometry of the batch.
            targets: the objects.
            image_sizes: (height, width) in pixels of every image.
            strides: (y, x) pixels per cell of every level.
        """
        boxes = [
            cxcywh_to_xyxy(b) * b.new_tensor([width, height, width, height])
            for b, (height, width) in zip(targets.boxes, image_sizes, strict=True)
        ]
        target = salience_targets(levels, strides, boxes, self.limits)
        flat = torch.cat([level.flatten(1) for level in logits], dim=1)
        loss = soft_focal_loss(flat, target, self.alpha, self.gamma) / (target > 0).sum().clamp(min=1)
        return {"loss_salience": loss * self.weight}
