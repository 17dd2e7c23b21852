"""Targets and their one-to-one assignment to the queries of all decoder layers (DETR, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..distributed import mean_over_processes
from .boxes import cxcywh_to_xyxy, paired_giou, xyxy_to_cxcywh


@dataclass(frozen=True)
class BoxTargets:
    """The objects of a batch, padded to the largest count T."""

    #: ``(B, T, 4)`` (cx, cy, w, h), normalized by each image's own size.
    boxes: Tensor
    #: ``(B, T)`` int64.
    labels: Tensor
    #: objects of each image.
    counts: list[int]

    @classmethod
    def pad(cls, boxes: Sequence[Tensor], labels: Sequence[Tensor]) -> BoxTargets:
        """Join the normalized ``(n, 4)`` boxes and ``(n,)`` labels of every image."""
        return cls(
            nn.utils.rnn.pad_sequence(list(boxes), batch_first=True),
            nn.utils.rnn.pad_sequence(list(labels), batch_first=True),
            [len(image) for image in boxes],
        )

    @classmethod
    def from_corners(
        cls, corners: Sequence[Tensor], labels: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> BoxTargets:
        """Join the ``(n, 4)`` boxes (x1, y1, x2, y2) in pixels of images of (height, width) ``sizes``."""
        scales = [boxes.new_tensor([w, h, w, h]) for boxes, (h, w) in zip(corners, sizes, strict=True)]
        normalized = [boxes / scale for boxes, scale in zip(corners, scales, strict=True)]
        return cls.pad([xyxy_to_cxcywh(boxes) for boxes in normalized], labels)

    def mean_count(self) -> Tensor:
        """Return the objects per process, at least 1: the normalizer of the losses."""
        total = torch.tensor(float(sum(self.counts)), device=self.boxes.device)
        return mean_over_processes(total).clamp(min=1.0)


@dataclass(frozen=True)
class Predictions:
    """Predictions of L decoder layers."""

    #: ``(L, B, Q, K)``.
    logits: Tensor
    #: ``(L, B, Q, 4)`` normalized (cx, cy, w, h).
    boxes: Tensor


@dataclass(frozen=True)
class Matches:
    """Which query answers which target. All tensors are ``(L, M)`` int64: layer, matched pair."""

    image: Tensor
    query: Tensor
    target: Tensor

    @property
    def at(self) -> tuple[Tensor, Tensor, Tensor]:
        """Index of the matched queries in an ``(L, B, Q, ...)`` tensor."""
        layer = torch.arange(len(self.query), device=self.query.device)[:, None]
        return layer, self.image, self.query

    def gather(self, per_query: Tensor) -> Tensor:
        """Return the rows of ``per_query`` ``(L, B, Q, ...)`` at the matched queries: ``(L, M, ...)``."""
        return per_query[self.at]

    def gather_targets(self, per_target: Tensor) -> Tensor:
        """Return the rows of ``per_target`` ``(B, T, ...)`` at the matched targets: ``(L, M, ...)``."""
        return per_target[self.image, self.target]


#: From predictions and targets of a batch to the cost ``(L, B, Q, T)`` of every pair.
Cost = Callable[[Any, Any], Tensor]


def _at_labels(per_class: Tensor, labels: Tensor) -> Tensor:
    """Return ``(L, B, Q, T)``: the entry of every label ``(B, T)`` in ``(L, B, Q, K)``."""
    layers, _, queries, _ = per_class.shape
    return per_class.gather(-1, labels[None, :, None, :].expand(layers, -1, queries, -1))


@dataclass(frozen=True)
class FocalCost:
    """Difference of the focal loss with and without each label (Deformable DETR)."""

    alpha: float = 0.25
    gamma: float = 2.0
    #: added to probabilities before the logarithm.
    eps: float = 1e-8

    def __call__(self, predictions: Predictions, targets: BoxTargets) -> Tensor:
        """Return the cost ``(L, B, Q, T)``."""
        p = _at_labels(predictions.logits.float(), targets.labels).sigmoid()
        positive = self.alpha * (1 - p) ** self.gamma * -(p + self.eps).log()
        negative = (1 - self.alpha) * p**self.gamma * -(1 - p + self.eps).log()
        return positive - negative


def softmax_cost(predictions: Predictions, targets: BoxTargets) -> Tensor:
    """Return minus the probability of each label (DETR, equation 1), ``(L, B, Q, T)``."""
    return -_at_labels(predictions.logits.float().softmax(-1), targets.labels)


def l1_cost(predictions: Predictions, targets: BoxTargets) -> Tensor:
    """Return the L1 distance of normalized (cx, cy, w, h), ``(L, B, Q, T)``."""
    return (predictions.boxes.float().unsqueeze(-2) - targets.boxes.float()[:, None]).abs().sum(-1)


def giou_cost(predictions: Predictions, targets: BoxTargets) -> Tensor:
    """Return minus the generalized IoU, ``(L, B, Q, T)``."""
    boxes, wanted = cxcywh_to_xyxy(predictions.boxes.float()), cxcywh_to_xyxy(targets.boxes.float())
    return -paired_giou(boxes.unsqueeze(-2), wanted[:, None])


@torch.no_grad()
def assign(cost: Tensor, counts: Sequence[int]) -> Matches:
    """Find the cheapest assignment for every layer and image.

    All costs travel to the host together, so a training step waits for the device once.

    Args:
        cost: ``(L, B, Q, T)``, T the largest target count.
        counts: targets of each image; columns beyond are padding.

    Returns:
        min(Q, count) matches of every image, ordered by image and query.

    Raises:
        FloatingPointError: a cost is not finite.
    """
    from scipy.optimize import linear_sum_assignment

    table = cost.float().cpu().numpy()
    valid = np.arange(cost.shape[3]) < np.asarray(counts).reshape(-1, 1)
    if not np.isfinite(table).all(where=valid[None, :, None, :]):
        raise FloatingPointError(
            "matching cost: expected finite values, found NaN or infinity (training diverged; lower the rate)"
        )
    rows = []
    for layer in table:
        pairs = [linear_sum_assignment(block[:, :count]) for block, count in zip(layer, counts, strict=True)]
        image = [np.full_like(query, index) for index, (query, _) in enumerate(pairs)]
        rows.append(np.stack([np.concatenate(part) for part in (image, *zip(*pairs, strict=True))]))
    index = torch.from_numpy(np.stack(rows, axis=1).astype(np.int64)).to(cost.device, non_blocking=True)
    return Matches(image=index[0], query=index[1], target=index[2])


@dataclass(frozen=True)
class HungarianMatcher:
    """Assigns queries to targets at the least sum of weighted costs."""

    #: (weight, cost) pairs.
    costs: tuple[tuple[float, Cost], ...]

    def cost(self, predictions: Any, targets: Any) -> Tensor:
        """Return the cost ``(L, B, Q, T)`` of every pair."""
        terms = [weight * cost(predictions, targets) for weight, cost in self.costs]
        return torch.stack(terms).sum(0)

    @torch.no_grad()
    def __call__(self, predictions: Any, targets: Any) -> Matches:
        """Match all layers; see :func:`assign`."""
        return assign(self.cost(predictions, targets), targets.counts)


def box_matcher(class_cost: Cost, weights: Sequence[float] = (2.0, 5.0, 2.0)) -> HungarianMatcher:
    """Return a matcher with weights for the class cost, the L1 distance and the generalized IoU."""
    return HungarianMatcher(tuple(zip(weights, (class_cost, l1_cost, giou_cost), strict=True)))
