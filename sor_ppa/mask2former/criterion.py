"""Matching of queries to objects, and the losses of all decoder layers at random points of the masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.matching import Matches, assign
from .decoder import QueryPredictions
from .points import sample_binary, sample_logits, uncertain_points
from .targets import MaskTargets

__all__ = ["MaskCriterion", "mask_costs", "point_losses"]


def mask_costs(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean binary cross entropy and the dice loss of every pair of query and object.

    Args:
        logits: ``(B, Q, P)`` at P points.
        wanted: ``(B, T, P)`` in [0, 1] at the same points.

    Returns:
        Two ``(B, Q, T)``.
    """
    objects = wanted.transpose(1, 2)
    entropy = (F.softplus(logits).sum(-1, keepdim=True) - logits @ objects) / logits.shape[-1]
    p = logits.sigmoid()
    overlap, total = p @ objects, p.sum(-1, keepdim=True) + wanted.sum(-1)[:, None]
    return entropy, 1 - (2 * overlap + 1) / (total + 1)


def point_losses(logits: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean binary cross entropy and the dice loss of masks ``(N, P)`` at points, each ``(N,)``."""
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)
    p = logits.sigmoid()
    return entropy, 1 - (2 * (p * wanted).sum(1) + 1) / (p.sum(1) + wanted.sum(1) + 1)


class MaskCriterion(nn.Module):
    """Classification, mask and dice loss of all layers (Mask2Former, section 3.2 and "Loss weights").

    Args:
        num_classes: K, not counting "no object".
        weights: of the class, the mask and the dice term, in costs and losses.
        empty_weight: of "no object" in the cross entropy.
        num_points: P points per mask.
        oversample, importance: see :func:`uncertain_points`.
    """

    empty_weight: Tensor

    def __init__(
        self,
        num_classes: int,
        weights: tuple[float, float, float] = (2.0, 5.0, 5.0),
        empty_weight: float = 0.1,
        num_points: int = 12544,
        oversample: float = 3.0,
        importance: float = 0.75,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.weights = weights
        self.num_points = num_points
        self.oversample, self.importance = oversample, importance
        self.register_buffer("empty_weight", torch.tensor([1.0] * num_classes + [empty_weight]))

    def forward(
        self, predictions: Sequence[QueryPredictions], targets: MaskTargets
    ) -> tuple[dict[str, Tensor], Matches]:
        """Return the weighted losses, in float32 also under autocast, and the matches of the last layer.

        Args:
            predictions: of every supervised layer, the last one last.
            targets: the objects.

        Returns:
            ``loss_ce``, ``loss_mask`` and ``loss_dice`` of the last layer, those of layer i with suffix
            ``_i``; the matches, of one layer.
        """
        normalizer = targets.mean_count()
        *auxiliary, last = predictions
        with torch.autocast(last.masks.device.type, enabled=False):
            losses, matches = self.layer_losses(last, targets, normalizer)
            for index, prediction in enumerate(auxiliary):
                layer, _ = self.layer_losses(prediction, targets, normalizer)
                losses |= {f"{name}_{index}": loss for name, loss in layer.items()}
        return losses, matches

    def layer_losses(
        self, prediction: QueryPredictions, targets: MaskTargets, normalizer: Tensor
    ) -> tuple[dict[str, Tensor], Matches]:
        """Return the weighted losses of one layer, and its matches."""
        dtype = self.empty_weight.dtype
        prediction = replace(prediction, logits=prediction.logits.to(dtype), masks=prediction.masks.to(dtype))
        matches = self.match(prediction, targets)
        rows, matched = targets.rows(matches), (matches.image[0], matches.query[0])
        wanted = torch.full(prediction.logits.shape[:2], self.num_classes, device=rows.device)
        wanted[matched] = targets.labels[rows]
        class_loss = F.cross_entropy(prediction.logits.flatten(0, 1), wanted.flatten(), self.empty_weight)
        losses = (class_loss, *self.mask_losses(prediction.masks, matched, targets, rows, normalizer))
        names = ("loss_ce", "loss_mask", "loss_dice")
        return {n: w * loss for n, w, loss in zip(names, self.weights, losses, strict=True)}, matches

    def mask_losses(
        self,
        logits: Tensor,
        matched: tuple[Tensor, Tensor],
        targets: MaskTargets,
        rows: Tensor,
        normalizer: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the mask and the dice loss of matched queries, without their weights.

        Args:
            logits: ``(B, Q, h, w)``.
            matched: M images and queries.
            targets: the objects.
            rows: ``(M,)`` the object of each match.
            normalizer: divides the sum over the matches.
        """
        if not len(rows):
            nothing = logits.sum() * 0.0
            return nothing, nothing
        masks = logits[matched]
        points = uncertain_points(masks, self.num_points, self.oversample, self.importance)
        inside = sample_binary(targets.masks, rows, points)
        entropy, dice = point_losses(sample_logits(masks[:, None], points)[:, 0], inside)
        return entropy.sum() / normalizer, dice.sum() / normalizer

    def guided_losses(self, masks: Sequence[Tensor], targets: MaskTargets, count: int) -> dict[str, Tensor]:
        """Return the weighted mask losses of queries that were started at objects, summed over the layers.

        Args:
            masks: logits ``(B, T * count, h, w)`` of every supervised layer; T is the largest number of
                objects of an image.
            targets: the objects.
            count: queries of an object.
        """
        rows = torch.arange(len(targets.labels), device=targets.labels.device).repeat_interleave(count)
        places = [torch.arange(n * count, device=rows.device) for n in targets.counts]
        matched = targets.image.repeat_interleave(count), torch.cat(places)
        normalizer = targets.mean_count() * count
        with torch.autocast(rows.device.type, enabled=False):
            dtype = self.empty_weight.dtype
            parts = [self.mask_losses(m.to(dtype), matched, targets, rows, normalizer) for m in masks]
        names = ("loss_guided_mask", "loss_guided_dice")
        totals = (torch.stack(terms).sum() for terms in zip(*parts, strict=True))
        return {n: w * total for n, w, total in zip(names, self.weights[1:], totals, strict=True)}

    @torch.no_grad()
    def match(self, prediction: QueryPredictions, targets: MaskTargets) -> Matches:
        """Assign queries to objects at the least cost; each image has its own random points."""
        logits, device = prediction.logits, prediction.logits.device
        points = torch.cat([torch.rand(1, self.num_points, 2, device=device) for _ in targets.counts])
        image = targets.image
        inside = sample_binary(targets.masks, torch.arange(len(image), device=device), points[image])
        mask, dice = mask_costs(sample_logits(prediction.masks, points), targets.pad(inside))
        labels = targets.pad(targets.labels)[:, None].expand(-1, logits.shape[1], -1)
        terms = (-logits.softmax(-1).gather(-1, labels), mask, dice)
        cost = torch.stack([w * term for w, term in zip(self.weights, terms, strict=True)]).sum(0)
        return assign(cost[None], targets.counts)
