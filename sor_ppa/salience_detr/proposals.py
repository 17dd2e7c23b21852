"""Two-stage query selection with redundancy removal."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from .levels import Levels

__all__ = ["DefaultBoxes", "default_boxes", "select_proposals"]


@dataclass(frozen=True)
class DefaultBoxes:
    """The boxes that the encoder's predictions are offsets to."""

    #: ``(B, S, 4)`` logits of (cx, cy, w, h); infinite at padded or invalid tokens.
    logits: Tensor
    #: ``(B, S)`` bool: neither padded nor too near the border.
    usable: Tensor


def default_boxes(levels: Levels) -> DefaultBoxes:
    """A box at every token: its centre, and sides of 0.05 * 2^level (Deformable DETR, A.4).

    A token is invalid where any of the four numbers lies outside (0.01, 0.99).
    """
    centres = levels.centres()
    sides = torch.cat(
        [centres.new_full((h * w,), 0.05 * 2.0**level) for level, (h, w) in enumerate(levels.shapes)]
    )
    boxes = torch.cat([centres, sides.view(1, -1, 1).expand(len(centres), -1, 2)], dim=-1)
    usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1)
    if levels.padding is not None:
        usable = usable & ~levels.padding
    logits = torch.log(boxes / (1 - boxes)).masked_fill(~usable.unsqueeze(-1), float("inf"))
    return DefaultBoxes(logits=logits, usable=usable)


@torch.no_grad()
def select_proposals(
    scores: Tensor,
    usable: Tensor,
    levels: Levels,
    count: int,
    candidates: int | None = None,
    iou_threshold: float = 0.3,
) -> Tensor:
    """The best tokens, without those beside a better one (Salience-DETR, 3.4).

    Each candidate is a square of side 2 around its cell; suppression runs per image and level, so
    horizontal and vertical neighbours (IoU 1/3) exclude each other and diagonal ones (1/7) do not.
    Where fewer than ``count`` survive, suppressed candidates fill up in the order of
    their scores, usable ones first: small images work, and the number depends on S alone.

    Args:
        scores: ``(B, S)``.
        usable: ``(B, S)`` bool.
        levels: geometry of the batch.
        count: proposals wanted.
        candidates: tokens that enter the suppression, by default ``4 * count``.
        iou_threshold: overlap above which the lower score is removed.

    Returns:
        ``(B, min(count, S))`` int64 flat token indices, best first.
    """
    images, tokens = scores.shape
    top = min(4 * count if candidates is None else candidates, tokens)
    best, index = scores.topk(top, dim=1)
    device = scores.device
    sizes = torch.tensor(levels.sizes, device=device)
    level_of_token = torch.arange(len(levels.shapes), device=device).repeat_interleave(
        sizes, output_size=tokens
    )
    width = torch.tensor([w for _, w in levels.shapes], device=device)
    start = sizes.cumsum(0) - sizes
    level = level_of_token[index]  # (B, top)
    cell = index - start[level]
    x, y = cell % width[level], torch.div(cell, width[level], rounding_mode="floor")
    squares = torch.stack([x - 1.0, y - 1.0, x + 1.0, y + 1.0], dim=-1)
    group = level + len(levels.shapes) * torch.arange(images, device=device).unsqueeze(1)
    kept = batched_nms(squares.flatten(0, 1), best.flatten(), group.flatten(), iou_threshold)

    penalty = torch.where(usable.gather(1, index), 1, 2).flatten()
    penalty[kept] = 0
    order = penalty.view(images, top).argsort(dim=1, stable=True)
    return index.gather(1, order[:, : min(count, tokens)])
