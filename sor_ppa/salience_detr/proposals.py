"""Two-stage query selection with redundancy removal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers.detr.levels import Levels
from ..layers.nms import kept_by_nms


@dataclass(frozen=True)
class DefaultBoxes:
    """The boxes that the encoder's predictions are offsets to."""

    #: ``(B, S, 4)`` logits of (cx, cy, w, h); infinite at unusable tokens.
    logits: Tensor
    #: ``(B, S)`` bool: neither padded nor too close to the border.
    usable: Tensor


def default_boxes(levels: Levels) -> DefaultBoxes:
    """Return a box at the center of every token with sides of 0.05 * 2^level (Deformable DETR, A.4).

    A token is unusable where any of the four numbers lies outside (0.01, 0.99).
    """
    centers = levels.centers()
    sides = torch.cat([centers.new_full((n,), 0.05 * 2.0**level) for level, n in enumerate(levels.sizes)])
    boxes = torch.cat([centers, sides.view(1, -1, 1).expand(centers.shape[0], -1, 2)], dim=-1)
    usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1)
    if levels.padding is not None:
        usable = usable & ~levels.padding
    logits = torch.log(boxes / (1 - boxes)).masked_fill(~usable.unsqueeze(-1), float("inf"))
    return DefaultBoxes(logits=logits, usable=usable)


@torch.no_grad()
def select_queries(
    scores: Tensor, usable: Tensor, levels: Levels, count: int, iou_threshold: float = 0.3
) -> Tensor:
    """Select the best tokens that have no better neighbor (Salience-DETR, section 3.4).

    NMS of the ``4 * count`` best tokens, per image and level, runs on squares of side 2 around the cells:
    horizontal and vertical neighbors (IoU 1/3) exclude each other, diagonal ones (1/7) do not. If fewer than
    ``count`` tokens remain, the best suppressed ones are added, usable ones first. So the number depends on
    S alone and small images work.

    Args:
        scores: ``(B, S)``.
        usable: ``(B, S)`` bool.
        levels: geometry of the batch.
        count: wanted proposals.
        iou_threshold: of the NMS.

    Returns:
        ``(B, min(count, S))`` int64 token indices, best first.
    """
    images, tokens = scores.shape
    top = torch.sym_min(4 * count, tokens)
    # Unusable tokens are alike but for rounding. With equal scores, a stable sort gives one order everywhere.
    unusable = scores.masked_fill(usable, -torch.inf).amax(1, keepdim=True)
    scores = torch.where(usable, scores, unusable)
    index = scores.sort(dim=1, descending=True, stable=True).indices[:, :top]
    device = scores.device
    start = torch.tensor(levels.starts, device=device)
    width = torch.tensor([w for _, w in levels.shapes], device=device)
    level = (index.unsqueeze(-1) >= start).sum(-1) - 1  # (B, top)
    cell = index - start[level]
    x, y = cell % width[level], cell // width[level]
    squares = torch.stack([x - 1.0, y - 1.0, x + 1.0, y + 1.0], dim=-1)
    order = torch.arange(top, 0, -1, dtype=squares.dtype, device=device).expand(images, -1)
    kept = kept_by_nms(squares, order, level, len(levels.shapes), iou_threshold)

    penalty = torch.where(usable.gather(1, index), 1, 2).masked_fill(kept, 0)
    order = (penalty * top + torch.arange(top, device=device)).argsort(dim=1)
    return index.gather(1, order[:, : torch.sym_min(count, tokens)])
