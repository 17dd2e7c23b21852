"""Contrastive denoising queries (DINO, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .boxes import cxcywh_to_xyxy, inverse_sigmoid, xyxy_to_cxcywh
from .matching import BoxTargets, Matches


@dataclass(frozen=True)
class Noise:
    """Random numbers of one step; R = 2 * groups * (objects of the batch).

    Rows: the batch's objects, repeated as positives, negatives, positives, ... of each group.
    """

    #: ``(R,)`` in [0, 1): a label is replaced where this is below the probability.
    label_draw: Tensor
    #: ``(R,)`` int64: replacement labels.
    label: Tensor
    #: ``(R, 4)`` of -1 or 1: direction of every corner coordinate.
    sign: Tensor
    #: ``(R, 4)`` in [0, 1): distance in halves of the object's side, before 1 is added for negatives.
    distance: Tensor


@dataclass(frozen=True)
class DenoisingQueries:
    """Queries of one step; D = groups * slots."""

    #: ``(B, D, C)`` label embeddings, 0 in unused slots.
    content: Tensor
    #: ``(B, D, 4)`` box logits, 0 in unused slots.
    box_logits: Tensor
    #: ``(D + Q, D + Q)`` bool, True = row must not attend to column.
    blocked: Tensor
    groups: int
    #: queries of a group: as many positives as the image with most objects has, then as many negatives.
    slots: int

    @property
    def count(self) -> int:
        """The number D of queries."""
        return self.groups * self.slots

    def matches(self, counts: Sequence[int], layers: int) -> Matches:
        """Return the known assignment, the same in all layers: positive k of every group to object k."""
        image, target = _rows(counts, self.blocked.device)
        group = torch.arange(self.groups, device=target.device).repeat_interleave(len(target))
        image, target = image.repeat(self.groups), target.repeat(self.groups)
        index = torch.stack([image, group * self.slots + target, target])
        return Matches(*index[:, None].expand(-1, layers, -1))


def _rows(counts: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return image and position in the image, both (N,), of all N objects of a batch."""
    image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return image.to(device), torch.cat([torch.arange(n) for n in counts]).to(device)


class ContrastiveDenoising(nn.Module):
    """Makes noisy copies of the objects: near ones to be restored, far ones to be rejected.

    Args:
        num_queries: matching queries Q.
        num_classes: classes K.
        dim: width C.
        num_denoising: wanted product of objects and groups per image.
        label_noise: twice the probability that a label is replaced by a random one.
        box_noise: scale of the corner noise.
        eps: of the box logits, see :func:`~.boxes.inverse_sigmoid`.
    """

    def __init__(
        self,
        num_queries: int,
        num_classes: int,
        dim: int,
        num_denoising: int = 100,
        label_noise: float = 0.5,
        box_noise: float = 1.0,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.num_classes = num_classes
        self.num_denoising = num_denoising
        self.label_noise = label_noise
        self.box_noise = box_noise
        self.eps = eps
        self.label_encoder = nn.Embedding(num_classes, dim)

    def draw(self, labels: Tensor, boxes: Tensor) -> Noise:
        """Draw random numbers for repeated ``labels`` ``(R,)`` and ``boxes`` ``(R, 4)``."""
        return Noise(
            label_draw=torch.rand_like(labels, dtype=torch.float32),
            label=torch.randint_like(labels, 0, self.num_classes),
            sign=torch.randint_like(boxes, 0, 2, dtype=torch.float32) * 2 - 1,
            distance=torch.rand_like(boxes),
        )

    def add_noise(self, labels: Tensor, boxes: Tensor, groups: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return noisy copies of labels ``(R,)`` and normalized boxes ``(R, 4)``, both repeated."""
        labels = torch.where(noise.label_draw < self.label_noise * 0.5, noise.label, labels)
        negative = torch.arange(2, dtype=boxes.dtype, device=boxes.device)
        negative = negative.repeat(groups).repeat_interleave(len(boxes) // (2 * groups))
        half = boxes[:, 2:].repeat(1, 2) / 2
        shift = (noise.distance + negative.unsqueeze(1)) * noise.sign * half * self.box_noise
        corners = (cxcywh_to_xyxy(boxes) + shift).clamp(0.0, 1.0)
        return labels, xyxy_to_cxcywh(corners)

    def mask(self, groups: int, slots: int, device: torch.device) -> Tensor:
        """Return the attention mask, ``(D + Q, D + Q)`` bool, True = row must not attend to column.

        Matching queries do not see denoising ones, and groups do not see each other;
        denoising queries see the matching ones.
        """
        group = torch.arange(groups, device=device).repeat_interleave(slots)
        group = torch.cat([group, group.new_full((self.num_queries,), -1)])
        return (group[:, None] != group[None]) & (group[None] >= 0)

    def forward(self, targets: BoxTargets, noise: Noise | None = None) -> DenoisingQueries | None:
        """Return the queries of a batch, None for one without objects; draw ``noise`` if it is not given."""
        most = max(targets.counts)
        if most == 0:
            return None
        groups = max(self.num_denoising // most, 1)
        device = targets.boxes.device
        image, slot = _rows(targets.counts, device)
        labels = targets.labels[image, slot].repeat(2 * groups)
        boxes = targets.boxes[image, slot].repeat(2 * groups, 1)
        labels, boxes = self.add_noise(labels, boxes, groups, noise or self.draw(labels, boxes))

        repeat = torch.arange(2 * groups, device=device).repeat_interleave(len(slot)) * most
        rows = image.repeat(2 * groups), slot.repeat(2 * groups) + repeat
        embedded = self.label_encoder(labels)
        shape = len(targets.counts), 2 * groups * most
        content = embedded.new_zeros(*shape, embedded.shape[1])
        box_logits = boxes.new_zeros(*shape, 4)
        return DenoisingQueries(
            content=content.index_put(rows, embedded),
            box_logits=box_logits.index_put(rows, inverse_sigmoid(boxes, self.eps)),
            blocked=self.mask(groups, 2 * most, device),
            groups=groups,
            slots=2 * most,
        )
