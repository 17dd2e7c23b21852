"""Set losses of all decoder layers at once (DETR, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from .boxes import cxcywh_to_xyxy, paired_giou, paired_iou
from .matching import BoxTargets, HungarianMatcher, Matches, Predictions


def varifocal_loss(logits: Tensor, quality: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the varifocal loss ``(..., K)`` with constant weights (VarifocalNet, equation 2; as in RT-DETR).

    A positive entry has the IoU of its box as target and as weight; a negative one has target 0
    and weight ``(1 - alpha) p^gamma``.

    Args:
        logits: ``(..., K)``.
        quality: ``(..., K)``; IoU in [0, 1] at positive entries, negative numbers elsewhere.
        alpha: 1 - weight of the negatives.
        gamma: exponent of the negatives.
    """
    target = quality.clamp(min=0).to(logits.dtype)
    negative_weight = (1 - alpha) * logits.detach().sigmoid().pow(gamma)
    weight = negative_weight.masked_fill(quality >= 0, 0.0) + target
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="none")


def soft_focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return the summed sigmoid focal loss for targets in [0, 1] (Salience-DETR, equation 4).

    Args:
        logits: any shape.
        target: the same shape.
        alpha: weight of the positive part.
        gamma: focusing exponent; the gradient also flows through the weight.
    """
    p = logits.sigmoid()
    target = target.to(logits.dtype)
    weight = (1 - alpha) * p**gamma * (1 - target) + alpha * (1 - p) ** gamma * target
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum()


class SetCriterion(nn.Module):
    """Matches queries to objects; L1 and GIoU losses of the matched boxes. Subclasses add a class loss.

    Args:
        matcher: assigns queries to objects.
        class_name: name of the class loss in the result.
    """

    def __init__(self, matcher: HungarianMatcher, class_name: str = "loss_ce") -> None:
        super().__init__()
        self.matcher = matcher
        self.class_name = class_name

    def forward(
        self,
        predictions: Predictions,
        targets: BoxTargets,
        normalizer: Tensor | float,
        matches: Matches | None = None,
    ) -> tuple[dict[str, Tensor], Matches]:
        """Compute the unweighted losses, in float32 also under autocast.

        Args:
            predictions: of L layers.
            targets: the objects.
            normalizer: all sums are divided by it.
            matches: a known assignment; the matcher's where not given.

        Returns:
            the class loss, ``loss_bbox`` and ``loss_giou``, each ``(L,)``, and the matches.
        """
        with torch.autocast(predictions.logits.device.type, enabled=False):
            predictions = Predictions(predictions.logits.float(), predictions.boxes.float())
            matches = self.matcher(predictions, targets) if matches is None else matches
            found, wanted = matches.gather(predictions.boxes), matches.gather_targets(targets.boxes.float())
            giou = paired_giou(cxcywh_to_xyxy(found), cxcywh_to_xyxy(wanted))
            losses = {
                self.class_name: self.class_loss(predictions, targets, matches, normalizer),
                "loss_bbox": (found - wanted).abs().sum((1, 2)) / normalizer,
                "loss_giou": (1 - giou).sum(1) / normalizer,
            }
        return losses, matches

    def class_loss(
        self, predictions: Predictions, targets: BoxTargets, matches: Matches, normalizer: Tensor | float
    ) -> Tensor:
        """Return the classification loss of every layer, ``(L,)``."""
        raise NotImplementedError


class FocalCriterion(SetCriterion):
    """Classifies with the sigmoid focal loss (Deformable DETR)."""

    def class_loss(
        self, predictions: Predictions, targets: BoxTargets, matches: Matches, normalizer: Tensor | float
    ) -> Tensor:
        onehot = torch.zeros_like(predictions.logits)
        labeled = (*matches.at, matches.gather_targets(targets.labels))
        onehot[labeled] = 1
        return sigmoid_focal_loss(predictions.logits, onehot).sum((1, 2, 3)) / normalizer


class SoftmaxCriterion(SetCriterion):
    """Classifies with cross entropy; the last class means "no object" (DETR, section 3.1).

    Args:
        matcher: assigns queries to objects.
        num_classes: classes, not counting "no object".
        empty_weight: weight of "no object".
    """

    empty_weight: Tensor

    def __init__(self, matcher: HungarianMatcher, num_classes: int, empty_weight: float) -> None:
        super().__init__(matcher)
        self.num_classes = num_classes
        self.register_buffer("empty_weight", torch.tensor([1.0] * num_classes + [empty_weight]))

    def class_loss(
        self, predictions: Predictions, targets: BoxTargets, matches: Matches, normalizer: Tensor | float
    ) -> Tensor:
        logits = predictions.logits
        wanted = torch.full(logits.shape[:3], self.num_classes, device=logits.device)
        wanted[matches.at] = matches.gather_targets(targets.labels)
        weight = self.empty_weight[wanted]
        nll = -logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
        return (nll * weight).sum((1, 2)) / weight.sum((1, 2))


class VarifocalCriterion(SetCriterion):
    """Classifies with the varifocal loss (Salience-DETR, section 3.5).

    Args:
        matcher: assigns queries to objects.
        alpha: balance of the varifocal loss.
        gamma: exponent of the varifocal loss.
    """

    def __init__(self, matcher: HungarianMatcher, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__(matcher, class_name="loss_class")
        self.alpha, self.gamma = alpha, gamma

    def class_loss(
        self, predictions: Predictions, targets: BoxTargets, matches: Matches, normalizer: Tensor | float
    ) -> Tensor:
        found = cxcywh_to_xyxy(matches.gather(predictions.boxes.detach()))
        iou = paired_iou(found, cxcywh_to_xyxy(matches.gather_targets(targets.boxes)))
        quality = torch.full_like(predictions.logits, -1.0, requires_grad=False)
        labeled = (*matches.at, matches.gather_targets(targets.labels))
        quality[labeled] = iou.to(quality.dtype)
        loss = varifocal_loss(predictions.logits, quality, self.alpha, self.gamma)
        return loss.sum((1, 2, 3)) / normalizer


def weigh(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Multiply every loss by the weight of its name."""
    return {name: loss * weights[name] for name, loss in losses.items()}


def name_by_layer(losses: Mapping[str, Tensor], suffix: str = "") -> dict[str, Tensor]:
    """Split ``(L,)`` losses: the last layer's is ``<name><suffix>``, layer i's ``<name><suffix>_<i>``."""
    named: dict[str, Tensor] = {}
    for name, values in losses.items():
        *auxiliary, last = values.unbind()
        named[name + suffix] = last
        named.update({f"{name}{suffix}_{index}": value for index, value in enumerate(auxiliary)})
    return named
