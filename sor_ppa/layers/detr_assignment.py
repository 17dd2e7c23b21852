"""One-to-one assignment of queries to targets, all decoder layers at once (DETR, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .boxes import cxcywh_to_xyxy, pairwise_giou

__all__ = ["Matches", "box_cost", "focal_class_cost", "match_layers", "softmax_class_cost"]


@dataclass(frozen=True)
class Matches:
    """Which query answers which target. All tensors are (L, M) int64: layer, matched pair."""

    image: Tensor
    query: Tensor
    target: Tensor

    def gather(self, per_query: Tensor) -> Tensor:
        """Rows of ``per_query`` (L, B, Q, ...) at the matched queries: (L, M, ...)."""
        layer = torch.arange(len(self.query), device=self.query.device)[:, None]
        return per_query[layer, self.image, self.query]

    def gather_targets(self, per_target: Tensor) -> Tensor:
        """Rows of ``per_target`` (B, T, ...) at the matched targets: (L, M, ...)."""
        return per_target[self.image, self.target]


def focal_class_cost(logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Difference of the focal loss with and without each label.

    Args:
        logits: (L, B, Q, C).
        labels: (B, T) int64.

    Returns:
        (L, B, Q, T).
    """
    p = _at_labels(logits.sigmoid(), labels)
    positive = alpha * (1 - p) ** gamma * -(p + 1e-8).log()
    negative = (1 - alpha) * p**gamma * -(1 - p + 1e-8).log()
    return positive - negative


def softmax_class_cost(logits: Tensor, labels: Tensor) -> Tensor:
    """Minus the probability of each label; shapes as in :func:`focal_class_cost`."""
    return -_at_labels(logits.softmax(-1), labels)


def _at_labels(per_class: Tensor, labels: Tensor) -> Tensor:
    layers, _, queries, _ = per_class.shape
    index = labels[None, :, None, :].expand(layers, -1, queries, -1)
    return per_class.gather(-1, index)


def box_cost(boxes: Tensor, targets: Tensor, weight_l1: float, weight_giou: float) -> Tensor:
    """Weighted L1 distance minus weighted generalised IoU.

    Args:
        boxes: (L, B, Q, 4) normalised, centre format.
        targets: (B, T, 4) likewise.

    Returns:
        (L, B, Q, T).
    """
    l1 = (boxes.unsqueeze(-2) - targets[None, :, None]).abs().sum(-1)
    giou = pairwise_giou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(targets)[None])
    return weight_l1 * l1 - weight_giou * giou


@torch.no_grad()
def match_layers(cost: Tensor, counts: list[int]) -> Matches:
    """Cheapest assignment for every layer and image.

    Args:
        cost: (L, B, Q, T), T the largest target count.
        counts: targets of each image; columns beyond are padding.

    Returns:
        the matches, of every image min(Q, count), ordered by image and query.

    Raises:
        FloatingPointError: a cost is not a number or infinite.
    """
    from scipy.optimize import linear_sum_assignment

    layers, images = cost.shape[:2]
    table = cost.detach().float().cpu().numpy()
    valid = np.arange(cost.shape[3])[None, :] < np.asarray(counts, dtype=np.int64).reshape(-1, 1)
    if not np.isfinite(table).all(where=valid[None, :, None, :]):
        raise FloatingPointError(
            "matching cost: found a value that is not finite; training diverged (lower SOLVER.BASE_LR)"
        )
    rows: list[np.ndarray] = []
    for layer in range(layers):
        per_image = []
        for image in range(images):
            query, target = linear_sum_assignment(table[layer, image, :, : counts[image]])
            per_image.append(np.stack((np.full_like(query, image), query, target)))
        rows.append(np.concatenate(per_image, axis=1) if per_image else np.zeros((3, 0), np.int64))
    index = torch.from_numpy(np.stack(rows, axis=1).astype(np.int64)).to(cost.device, non_blocking=True)
    return Matches(image=index[0], query=index[1], target=index[2])
