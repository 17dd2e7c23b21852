"""Queries that start at the likely centers of objects, instead of learned ones.

Learned queries have to find out which part of the image each of them is responsible for, which takes tens of
thousands of iterations. A seed is a token of the pixel decoder at a local maximum of an objectness map
(CenterNet, section 3), so that a query belongs to one place from the start.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.losses import soft_focal_loss
from ..layers.detr.mlp import prior_logit
from .targets import MaskTargets

__all__ = ["SeedQueries", "seed_loss", "seed_targets"]

_SPREAD = 0.3  # deviation of the target around the center of an object, as a share of the object's deviation


class SeedQueries(nn.Module):
    """Choose tokens as queries.

    Args:
        dim: width C of tokens and queries.
        num_queries: seeds Q of each image; fewer where there are fewer tokens.
    """

    def __init__(self, dim: int, num_queries: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.objectness = nn.Linear(dim, 1)
        nn.init.constant_(self.objectness.bias, prior_logit())
        self.content = nn.Linear(dim, dim)
        self.place = nn.Linear(dim, dim)

    def forward(
        self, tokens: Tensor, positions: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries ``(B, Q, C)``, their positions ``(B, Q, C)`` and the objectness logits ``(B, S)``.

        Args:
            tokens: ``(B, S, C)`` of all maps.
            positions: ``(B, S, C)`` position embedding.
            shapes: (h, w) of the maps.
        """
        logits = self.objectness(tokens)[..., 0]
        peaks = []
        for part, shape in zip(logits.detach().split([h * w for h, w in shapes], 1), shapes, strict=True):
            grid = part.unflatten(1, shape)[:, None]
            peaks.append((F.max_pool2d(grid, 3, stride=1, padding=1) == grid).flatten(1))
        order = logits.detach().sigmoid() + torch.cat(peaks, dim=1)
        index = order.topk(min(self.num_queries, order.shape[1]), dim=1).indices[..., None]
        chosen, places = (x.gather(1, index.expand(-1, -1, x.shape[2])) for x in (tokens, positions))
        return self.content(chosen), self.place(places), logits


def seed_targets(targets: MaskTargets, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Return how close each token is to the center of an object, ``(B, S)`` in [0, 1].

    Args:
        targets: the objects.
        shapes: (h, w) of the maps.
    """
    masks = targets.masks
    areas = masks.sum((1, 2)).clamp(min=1).float()
    near = []
    for dim, axis in ((2, 0), (1, 1)):  # y and x
        share = masks.sum(dim) / areas[:, None]
        length = share.shape[1]
        place = (torch.arange(length, device=masks.device) + 0.5) / length
        mean = (share * place).sum(1, keepdim=True)
        spread = (share * (place - mean) ** 2).sum(1, keepdim=True).sqrt()
        distances = []
        for shape in shapes:
            cells = (torch.arange(shape[axis], device=masks.device) + 0.5) / shape[axis]
            distances.append(((cells - mean) / (_SPREAD * spread + 0.5 / shape[axis])) ** 2)
        near.append(distances)
    closeness = [
        torch.exp(-0.5 * (y[:, :, None] + x[:, None])).flatten(1) for y, x in zip(*near, strict=True)
    ]
    return F.pad(targets.pad(torch.cat(closeness, dim=1)), (0, 0, 1, 0)).amax(1)


def seed_loss(logits: Tensor, targets: MaskTargets, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Return the focal loss of objectness logits ``(B, S)`` over the number of objects."""
    with torch.autocast(logits.device.type, enabled=False):
        return soft_focal_loss(logits.float(), seed_targets(targets, shapes)) / targets.mean_count()
