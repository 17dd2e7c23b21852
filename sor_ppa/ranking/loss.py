"""Losses of the ranking branch: over rank classes, or over the order of the objects of an image.

The order losses learn one number an object, see :func:`~sor_ppa.ranking.decode.utilities`. Several proposals
of one object weigh together as much as one object.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .decode import pad_by_image, utilities
from .order import ORDER_LOSSES

__all__ = ["order_loss", "ranking_loss"]

_NEVER = -1e30  # logarithm of the strength of what takes no part; finite, so that gradients are


def ranking_loss(
    logits: Tensor, ranks: Tensor, counts: Sequence[int], loss: str, objects: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the ranking loss, summed over a batch, and the number to divide it by.

    Args:
        logits: (N, K), N the sum of ``counts``.
        ranks: (N,) int64, higher is more salient, -1 = not ranked.
        counts: proposals of each image.
        loss: "cross_entropy" over the K ranks, which leaves out what is not ranked; or one of
            :func:`order_loss`.
        objects: (N,) int64, the object of each proposal; see :func:`order_loss`.

    Returns:
        Two scalars: the sum, and the ranked proposals, the ranked objects or the pairs in it.
    """
    if loss in ORDER_LOSSES:
        return order_loss(utilities(logits), ranks, counts, loss, objects)
    number = (ranks >= 0).sum().to(logits.dtype)
    return F.cross_entropy(logits, ranks, ignore_index=-1, reduction="sum"), number


def order_loss(
    values: Tensor, ranks: Tensor, counts: Sequence[int], loss: str, objects: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return a loss of the orders in several images, summed over them, and the number to divide it by.

    Objects without a rank count as less salient than all ranked ones, in no order among themselves. An image
    without ranks adds nothing.

    Args:
        values: (N,) utilities, N the sum of ``counts``.
        ranks: (N,) int64, higher is more salient, equal = tied, -1 = not ranked.
        counts: proposals of each image.
        loss: "plackett_luce", the negative log-likelihood of the whole order (ListMLE; Xia et al., ICML 2008)
            with Efron's form for ties (Efron, JASA 1977), per ranked object; or "pairwise", the logistic loss
            of every pair with the target 1/2 for ties (RankNet; Burges et al., ICML 2005), per pair.
        objects: (N,) int64, the object of each proposal, numbered within its image; None: one proposal each.
    """
    if objects is None:
        objects = torch.arange(len(values), device=values.device)
    utility, valid = pad_by_image(values, counts)
    rank, owner = (pad_by_image(x, counts)[0] for x in (ranks, objects))
    same = (owner[:, :, None] == owner[:, None]) & valid[:, None] & valid[..., None]
    weight = valid / same.sum(dim=2).clamp(min=1)
    if loss == "pairwise":
        return _pairwise(utility, rank, weight.to(utility.dtype), same)
    return _plackett_luce(utility, rank, weight.to(utility.dtype))


def _plackett_luce(utility: Tensor, rank: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum over ranked objects; all arguments (B, M), weight 0 in padding.

    Efron: the d objects of a tie are drawn from what is below them, plus the share 1, (d - 1) / d, ..., 1 / d
    of the tie. That is exact where the tied objects have one utility.
    """
    strength = torch.where(weight > 0, utility + weight.log(), _NEVER)[:, None]
    lower, tied = rank[:, None] < rank[..., None], rank[:, None] == rank[..., None]
    below = torch.where(lower, strength, _NEVER).logsumexp(dim=2, keepdim=True)
    level = torch.where(tied, strength, _NEVER).logsumexp(dim=2, keepdim=True)
    number = (tied * weight[:, None]).sum(dim=2, keepdim=True).round().clamp(min=1)
    left = 1 - torch.arange(rank.shape[1], device=rank.device) / number  # (B, M, draws from the tie)
    drawn_from = torch.logaddexp(below, level + left.clamp(min=1e-6).log())
    mean = torch.where(left > 0, drawn_from, 0).sum(dim=2) / number.squeeze(2)
    ranked = weight * (rank >= 0)
    return (ranked * (mean - utility)).sum(), ranked.sum()


def _pairwise(utility: Tensor, rank: Tensor, weight: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum over pairs of objects; arguments (B, M), and ``same`` (B, M, M): of one object."""
    known = ~same & ((rank[..., None] >= 0) | (rank[:, None] >= 0))
    pairs = weight[..., None] * weight[:, None] * known / 2  # both (i, j) and (j, i) are there
    difference = utility[..., None] - utility[:, None]
    target = (1 + torch.sign(rank[..., None] - rank[:, None])) / 2
    total = F.binary_cross_entropy_with_logits(
        difference, target.to(utility.dtype), weight=pairs, reduction="sum"
    )
    return total, pairs.sum()
