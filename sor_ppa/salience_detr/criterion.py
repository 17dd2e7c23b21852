"""Training losses: detection, denoising and salience."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers.detr.boxes import cxcywh_to_xyxy
from ..layers.detr.denoising import DenoisingQueries
from ..layers.detr.levels import Levels
from ..layers.detr.losses import SetCriterion, name_by_layer, soft_focal_loss, weigh
from ..layers.detr.matching import BoxTargets, Predictions
from .transformer import SalienceOutput

#: Upper end of the size range of the last level, in pixels.
UNLIMITED = 99999.0


def detection_losses(
    criterion: SetCriterion,
    weights: Mapping[str, float],
    output: SalienceOutput,
    targets: BoxTargets,
    denoising: DenoisingQueries | None,
) -> dict[str, Tensor]:
    """Compute the weighted losses of all decoder layers, of the encoder's proposals and of denoising.

    Returns:
        ``loss_class``, ``loss_bbox``, ``loss_giou`` of the last layer; with ``_i`` of layer i,
        ``_enc`` of the proposals, ``_dn`` and ``_dn_i`` of the denoising queries.
    """
    normalizer = targets.mean_count()
    extra = 0 if denoising is None else denoising.count
    proposals = output.proposals
    predictions = Predictions(
        torch.cat([proposals.logits[None], output.logits[:, :, extra:]]),
        torch.cat([proposals.boxes[None], output.boxes[:, :, extra:]]),
    )
    values = weigh(criterion(predictions, targets, normalizer)[0], weights)
    losses = {f"{name}_enc": value[0] for name, value in values.items()}
    losses |= name_by_layer({name: value[1:] for name, value in values.items()})
    if denoising is not None:
        known = denoising.matches(targets.counts, len(output.logits))
        noisy = Predictions(output.logits[:, :, :extra], output.boxes[:, :, :extra])
        values = criterion(noisy, targets, normalizer * denoising.groups, known)[0]
        losses |= name_by_layer(weigh(values, weights), suffix="_dn")
    return losses


@torch.no_grad()
def salience_targets(
    levels: Levels, strides: Sequence[tuple[float, float]], corners: Tensor, limits: Sequence[float]
) -> Tensor:
    """Return the scale-independent salience of every token (Salience-DETR, equation 3).

    A token is positive if its center lies in a box and the farthest side of that box is within the range of
    the token's level. Its value is then the highest ``1 - sqrt(dx^2 + dy^2) / 2`` over all boxes around the
    center; dx and dy are its offsets from the box center in halves of the box's sides.

    Args:
        levels: geometry of the batch.
        strides: (y, x) pixels per cell of every level.
        corners: ``(B, T, 4)`` corner format in pixels; empty boxes are ignored.
        limits: upper end, in pixels, of the range of every level but the last.

    Returns:
        ``(B, S)`` float32 in [0, 1].
    """
    device = corners.device
    if corners.shape[1] == 0:
        return torch.zeros(len(corners), sum(levels.sizes), device=device)
    xs, ys = [], []
    for (h, w), (stride_y, stride_x) in zip(levels.shapes, strides, strict=True):
        ys.append(((torch.arange(h, device=device) + 0.5) * stride_y).repeat_interleave(w))
        xs.append(((torch.arange(w, device=device) + 0.5) * stride_x).repeat(h))
    x, y = torch.cat(xs).unsqueeze(1), torch.cat(ys).unsqueeze(1)
    sizes = torch.tensor(levels.sizes, device=device)
    bounds = torch.tensor([-1.0, *limits, UNLIMITED], device=device)
    low, high = (b.repeat_interleave(sizes).unsqueeze(1) for b in (bounds[:-1], bounds[1:]))
    x1, y1, x2, y2 = corners.unsqueeze(1).unbind(-1)
    left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y  # (B, S, T)
    sides = torch.stack([left, top, right, bottom])
    inside, farthest = sides.amin(0) > 0, sides.amax(0)
    positive = (inside & (farthest > low) & (farthest <= high)).any(-1)
    dx, dy = (left - right) / (left + right), (top - bottom) / (top + bottom)
    value = (1 - torch.sqrt(dx**2 + dy**2) / 2).masked_fill(~inside, 0.0).amax(-1)
    return value.masked_fill(~positive, 0.0)


@dataclass(frozen=True)
class SalienceCriterion:
    """Soft focal loss of the salience logits of all levels (Salience-DETR, equation 4).

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
        targets: BoxTargets,
        image_sizes: Sequence[tuple[int, int]],
        padded_size: tuple[int, int],
    ) -> dict[str, Tensor]:
        """Return the weighted loss: the sum over all tokens, divided by the number of positive ones.

        Args:
            logits: per level ``(B, 1, h, w)``.
            levels: geometry of the batch.
            targets: the objects.
            image_sizes: (height, width) in pixels of every image.
            padded_size: (height, width) in pixels of the batch.
        """
        scale = targets.boxes.new_tensor([(w, h, w, h) for h, w in image_sizes]).unsqueeze(1)
        strides = [(padded_size[0] / h, padded_size[1] / w) for h, w in levels.shapes]
        target = salience_targets(levels, strides, cxcywh_to_xyxy(targets.boxes) * scale, self.limits)
        flat = torch.cat([level.flatten(1) for level in logits], dim=1)
        loss = soft_focal_loss(flat, target, self.alpha, self.gamma) / (target > 0).sum().clamp(min=1)
        return {"loss_salience": loss * self.weight}
