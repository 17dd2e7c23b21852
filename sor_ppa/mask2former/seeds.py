"""Queries that start at the likely centers of objects, instead of learned ones.

Learned queries have to find out which part of the image each of them is responsible for, which takes tens of
thousands of iterations. A seed is a token of the pixel decoder at a local maximum of an objectness map
(CenterNet, section 3), so that a query belongs to one place from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.losses import soft_focal_loss
from ..layers.detr.mlp import MLP, prior_logit
from ..layers.precision import full_precision
from .targets import MaskTargets

__all__ = ["SeedQueries", "seed_loss", "seed_targets"]

_RADIUS = 0.15  # of the ellipse around a seed at first, as a share of the image's sides
_SLOPE = 3.0  # by which a mask logit falls in the distance of a radius
_SPREAD = 0.3  # deviation of the target around the center of an object, as a share of the object's deviation


@dataclass(frozen=True)
class Seeds:
    """Queries before the first decoder layer."""

    #: ``(B, Q, C)``.
    queries: Tensor
    #: ``(B, Q, C)`` embedding of their positions.
    positions: Tensor
    #: ``(B, Q, 2)`` as (x, y) in [0, 1].
    centers: Tensor
    #: logits ``(B, S)`` of all tokens.
    objectness: Tensor


def _middles(cells: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the centers of cells that divide [0, 1]."""
    return (torch.arange(cells, device=device, dtype=dtype) + 0.5) / cells


class SeedQueries(nn.Module):
    """Choose tokens as queries, which say where the masks are at first.

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
        self.ellipse = MLP(dim, dim, 4, 2)
        self.ellipse.zero_last()

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        centers: Tensor,
        shapes: Sequence[tuple[int, int]],
        guides: Tensor | None = None,
    ) -> Seeds:
        """Return the queries of B images.

        Args:
            tokens: ``(B, S, C)`` of all maps.
            positions: ``(B, S, C)`` position embedding.
            centers: ``(S, 2)`` as (x, y) in [0, 1].
            shapes: (h, w) of the maps.
            guides: ``(B, G)`` tokens that become queries too, after the others.
        """
        logits = full_precision(self.objectness, tokens)[..., 0]
        peaks = []
        for part, shape in zip(logits.detach().split([h * w for h, w in shapes], 1), shapes, strict=True):
            grid = part.unflatten(1, shape)[:, None]
            peaks.append((F.max_pool2d(grid, 3, stride=1, padding=1) == grid).flatten(1))
        order = logits.detach().sigmoid() + torch.cat(peaks, dim=1)
        index = order.topk(torch.sym_min(self.num_queries, order.shape[1]), dim=1).indices
        if guides is not None:
            index = torch.cat([index, guides], dim=1)
        chosen, places = (
            x.gather(1, index[..., None].expand(-1, -1, x.shape[2])) for x in (tokens, positions)
        )
        return Seeds(self.content(chosen), self.place(places), centers[index], logits)

    def prior(self, queries: Tensor, centers: Tensor, shape: tuple[int, int]) -> Tensor:
        """Return mask logits ``(B, Q, h, w)`` that fall with the distance from an ellipse around each seed.

        Args:
            queries: ``(B, Q, C)`` normalized; they shift and stretch the ellipse.
            centers: ``(B, Q, 2)`` of the seeds.
            shape: (h, w).
        """
        shift, stretch = self.ellipse(queries).split(2, dim=-1)
        radius = _RADIUS * stretch.clamp(-3, 3).exp()
        middle = centers + _RADIUS * shift
        squares = [
            ((_middles(n, queries.device, queries.dtype) - middle[..., axis, None]) / radius[..., axis, None])
            ** 2
            for axis, n in ((1, shape[0]), (0, shape[1]))
        ]
        distance = (squares[0][..., None] + squares[1][..., None, :] + 1e-4).sqrt()
        return _SLOPE * (1 - distance)


def center_closeness(targets: MaskTargets, shapes: Sequence[tuple[int, int]]) -> Tensor:
    """Return how close each token is to the center of each object, ``(N, S)`` in [0, 1]; 0 without pixels.

    Args:
        targets: the objects.
        shapes: (h, w) of the maps.
    """
    masks = targets.masks
    pixels = masks.sum((1, 2))
    areas = pixels.clamp(min=1).float()
    near = []
    for dim, axis in ((2, 0), (1, 1)):  # y and x
        share = masks.sum(dim) / areas[:, None]
        place = _middles(share.shape[1], masks.device)
        mean = (share * place).sum(1, keepdim=True)
        spread = (share * (place - mean) ** 2).sum(1, keepdim=True).sqrt()
        distances = []
        for shape in shapes:
            cells = _middles(shape[axis], masks.device)
            distances.append(((cells - mean) / (_SPREAD * spread + 0.5 / shape[axis])) ** 2)
        near.append(distances)
    closeness = [
        torch.exp(-0.5 * (y[:, :, None] + x[:, None])).flatten(1) for y, x in zip(*near, strict=True)
    ]
    return torch.cat(closeness, dim=1) * (pixels > 0)[:, None]


def seed_targets(targets: MaskTargets, closeness: Tensor) -> Tensor:
    """Return how close each token is to the center of an object, ``(B, S)`` in [0, 1].

    Args:
        targets: the objects.
        closeness: of :func:`center_closeness`.
    """
    return F.pad(targets.pad(closeness), (0, 0, 1, 0)).amax(1)


def seed_loss(logits: Tensor, targets: MaskTargets, closeness: Tensor) -> Tensor:
    """Return the focal loss of objectness logits ``(B, S)`` over the number of objects."""
    with torch.autocast(logits.device.type, enabled=False):
        return soft_focal_loss(logits.float(), seed_targets(targets, closeness)) / targets.mean_count()


def guide_tokens(targets: MaskTargets, closeness: Tensor, count: int) -> Tensor:
    """Return random tokens near the center of each object, ``(B, T * count)``; 0 where there is no object."""
    if not len(closeness):
        return closeness.new_zeros((len(targets.counts), 0), dtype=torch.int64)
    weights = closeness + 1e-9  # an object without pixels is near to no token
    chosen = torch.multinomial(weights, count, replacement=True)
    return targets.pad(chosen).flatten(1)
