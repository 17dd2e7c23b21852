"""Set prediction losses of all decoder layers at once (DETR, section 3.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.boxes import cxcywh_to_xyxy, paired_giou
from ..layers.detr_assignment import Matches, box_cost, focal_class_cost, match_layers, softmax_class_cost

__all__ = ["SetCriterion", "Targets", "name_by_layer"]


@dataclass(frozen=True)
class Targets:
    """Ground truth of a batch, padded to the largest count.

    Attributes:
        boxes: (B, T, 4) normalised by each image's own size, centre format.
        labels: (B, T) int64.
        counts: true targets of each image.
    """

    boxes: Tensor
    labels: Tensor
    counts: list[int]

    @classmethod
    def pad(cls, boxes: list[Tensor], labels: list[Tensor]) -> Targets:
        """Join per-image (n, 4) boxes and (n,) labels."""
        return cls(
            nn.utils.rnn.pad_sequence(boxes, batch_first=True),
            nn.utils.rnn.pad_sequence(labels, batch_first=True),
            [len(b) for b in boxes],
        )


class SetCriterion(nn.Module):
    """Matching and losses.

    Args:
        num_classes: classes, not counting "no object".
        classification: "focal" (sigmoid focal loss) or "softmax" (cross entropy with a last
            class for "no object", weighted ``empty_weight``).
        cost_class: weight of the class term in the matching cost.
        cost_box: weight of the L1 distance in the matching cost.
        cost_giou: weight of the generalised IoU in the matching cost.
        empty_weight: weight of "no object" in the cross entropy.
        alpha: weight of positives in the focal loss.
        gamma: exponent of the focal loss.
    """

    empty_weight: Tensor

    def __init__(
        self,
        *,
        num_classes: int,
        classification: str,
        cost_class: float,
        cost_box: float,
        cost_giou: float,
        empty_weight: float = 0.1,
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        if classification not in ("focal", "softmax"):
            raise ValueError(
                f"MODEL.SIAMESE_DETR.CLASSIFICATION: found {classification!r}, expected 'focal' or 'softmax'"
            )
        self.num_classes = num_classes
        self.classification = classification
        self.cost_class, self.cost_box, self.cost_giou = cost_class, cost_box, cost_giou
        self.alpha, self.gamma = alpha, gamma
        if classification == "softmax":
            weight = torch.ones(num_classes + 1)
            weight[-1] = empty_weight
            self.register_buffer("empty_weight", weight)

    @torch.no_grad()
    def match(self, logits: Tensor, boxes: Tensor, targets: Targets) -> Matches:
        """Assign queries to targets.

        Args:
            logits: (L, B, Q, C).
            boxes: (L, B, Q, 4) normalised, centre format.
            targets: of the batch.
        """
        logits, boxes = logits.float(), boxes.float()
        if self.classification == "focal":
            class_cost = focal_class_cost(logits, targets.labels, self.alpha, self.gamma)
        else:
            class_cost = softmax_class_cost(logits, targets.labels)
        cost = self.cost_class * class_cost + box_cost(boxes, targets.boxes, self.cost_box, self.cost_giou)
        return match_layers(cost, targets.counts)

    def forward(
        self, logits: Tensor, boxes: Tensor, targets: Targets, num_boxes: float
    ) -> tuple[dict[str, Tensor], Matches]:
        """Match and compute every loss, unweighted.

        Args:
            logits: (L, B, Q, C).
            boxes: (L, B, Q, 4) normalised, centre format.
            targets: of the batch.
            num_boxes: what the sums are divided by.

        Returns:
            ``loss_ce``, ``loss_bbox`` and ``loss_giou``, each (L,), and the matches.
        """
        with torch.autocast(logits.device.type, enabled=False):
            logits, boxes = logits.float(), boxes.float()
            matches = self.match(logits, boxes, targets)
            predicted = matches.gather(boxes)
            truth = matches.gather_targets(targets.boxes.float())
            giou = paired_giou(cxcywh_to_xyxy(predicted), cxcywh_to_xyxy(truth))
            losses = {
                "loss_ce": self.class_loss(logits, targets, matches, num_boxes),
                "loss_bbox": (predicted - truth).abs().sum((1, 2)) / num_boxes,
                "loss_giou": (1 - giou).sum(1) / num_boxes,
            }
        return losses, matches

    def class_loss(self, logits: Tensor, targets: Targets, matches: Matches, num_boxes: float) -> Tensor:
        """(L,) classification loss of (L, B, Q, C) logits."""
        wanted = self.wanted_labels(logits, targets, matches)
        if self.classification == "softmax":
            weight = self.empty_weight[wanted]
            nll = -logits.log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
            return (nll * weight).sum((1, 2)) / weight.sum((1, 2))
        onehot = F.one_hot(wanted, self.num_classes + 1)[..., :-1].to(logits.dtype)
        p = logits.sigmoid()
        bce = F.binary_cross_entropy_with_logits(logits, onehot, reduction="none")
        p_true = p * onehot + (1 - p) * (1 - onehot)
        weight = self.alpha * onehot + (1 - self.alpha) * (1 - onehot)
        return (weight * (1 - p_true) ** self.gamma * bce).sum((1, 2, 3)) / num_boxes

    def wanted_labels(self, logits: Tensor, targets: Targets, matches: Matches) -> Tensor:
        """(L, B, Q) int64: the label of each query, ``num_classes`` where it should find nothing."""
        wanted = torch.full(logits.shape[:3], self.num_classes, dtype=torch.int64, device=logits.device)
        layer = torch.arange(len(wanted), device=logits.device)[:, None]
        wanted[layer, matches.image, matches.query] = matches.gather_targets(targets.labels)
        return wanted

    @torch.no_grad()
    def diagnostics(self, logits: Tensor, targets: Targets, matches: Matches) -> dict[str, Tensor]:
        """Published training diagnostics, each (L,): they carry no gradient.

        Returns:
            ``class_error`` in per cent of the matched queries, and ``cardinality_error``, the mean
            absolute difference between targets and queries whose best class is not the last.
        """
        best = logits.argmax(-1)
        right = matches.gather(best) == matches.gather_targets(targets.labels)
        error = 100 - 100 * right.float().mean(1) if right.shape[1] else right.new_zeros(len(best)).float()
        counts = torch.tensor(targets.counts, dtype=torch.float32, device=logits.device)
        found = (best != logits.shape[-1] - 1).sum(-1).float()
        return {"class_error": error, "cardinality_error": (found - counts).abs().mean(1)}


def name_by_layer(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """(L,) values to scalars under the published names: the last layer plain, layer i as ``<name>_<i>``."""
    named: dict[str, Tensor] = {}
    for name, values in losses.items():
        *auxiliary, last = values.unbind()
        named[name] = last
        named.update({f"{name}_{index}": value for index, value in enumerate(auxiliary)})
    return named
