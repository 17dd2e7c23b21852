"""One-to-one assignment of predictions to objects (DETR, eq. 1; focal class cost of Deformable DETR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .boxes import cxcywh_to_xyxy, pairwise_giou

__all__ = ["HungarianMatcher"]


@dataclass(frozen=True)
class HungarianMatcher:
    """Finds the assignment of least cost.

    Args:
        class_weight: weight of the focal class cost.
        box_weight: weight of the L1 distance of normalised (cx, cy, w, h).
        giou_weight: weight of the negative generalised IoU.
        alpha: balance of the focal cost.
        gamma: exponent of the focal cost.
    """

    class_weight: float = 2.0
    box_weight: float = 5.0
    giou_weight: float = 2.0
    alpha: float = 0.25
    gamma: float = 2.0

    def cost(self, logits: Tensor, boxes: Tensor, gt_labels: Tensor, gt_boxes: Tensor) -> Tensor:
        """Cost of giving each prediction to each object.

        Args:
            logits: ``(..., Q, K)``.
            boxes: ``(..., Q, 4)`` normalised (cx, cy, w, h).
            gt_labels: ``(T,)`` int64.
            gt_boxes: ``(T, 4)`` normalised (cx, cy, w, h).

        Returns:
            ``(..., Q, T)`` float32.
        """
        probability = logits[..., gt_labels].float().sigmoid()
        positive = self.alpha * (1 - probability) ** self.gamma * -(probability + 1e-6).log()
        negative = (1 - self.alpha) * probability**self.gamma * -(1 - probability + 1e-6).log()
        boxes, gt_boxes = boxes.float(), gt_boxes.float()
        distance = (boxes.unsqueeze(-2) - gt_boxes).abs().sum(-1)
        overlap = pairwise_giou(cxcywh_to_xyxy(boxes).flatten(0, -2), cxcywh_to_xyxy(gt_boxes)).view_as(
            distance
        )
        return (
            self.box_weight * distance
            + self.class_weight * (positive - negative)
            - self.giou_weight * overlap
        )

    @torch.no_grad()
    def __call__(
        self, logits: Tensor, boxes: Tensor, gt_labels: Sequence[Tensor], gt_boxes: Sequence[Tensor]
    ) -> list[list[tuple[Tensor, Tensor]]]:
        """Assign every object of every image to a prediction, for several sets of predictions at once.

        All costs travel to the host together, so a step waits for the device once.

        Args:
            logits: ``(N, B, Q, K)``; N sets of predictions (decoder layers).
            boxes: ``(N, B, Q, 4)`` normalised (cx, cy, w, h).
            gt_labels: per image ``(T_b,)`` int64.
            gt_boxes: per image ``(T_b, 4)`` normalised (cx, cy, w, h).

        Returns:
            for every set, for every image: (prediction index ascending, object index), int64, on
            the device of ``logits``.

        Raises:
            FloatingPointError: a cost is not finite (the training has diverged).
        """
        from scipy.optimize import linear_sum_assignment

        sets = logits.shape[0]
        counts = [len(labels) for labels in gt_labels]
        costs = [self.cost(logits[:, i], boxes[:, i], gt_labels[i], gt_boxes[i]) for i in range(len(counts))]
        table = torch.cat(costs, dim=-1).cpu()
        if not torch.isfinite(table).all():
            raise FloatingPointError("matching cost: NaN or infinity found, expected finite predictions")
        blocks = table.split(counts, dim=-1)
        pairs = []
        for n in range(sets):
            for block in blocks:
                rows, columns = linear_sum_assignment(block[n].numpy())
                pairs.append(torch.stack([torch.as_tensor(rows), torch.as_tensor(columns)]).long())
        moved = torch.cat(pairs, dim=1).to(logits.device).split([p.shape[1] for p in pairs], dim=1)
        images = len(counts)
        return [[(p[0], p[1]) for p in moved[n * images : (n + 1) * images]] for n in range(sets)]
