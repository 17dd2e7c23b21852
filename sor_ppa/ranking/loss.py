"""The loss of the ranking branch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from ..layers import mean_over_processes

__all__ = ["ranking_loss"]


def ranking_loss(logits: Tensor, ranks: Tensor) -> Tensor:
    """Return the cross-entropy over the K ranks, averaged over all ranked proposals of the batch.

    Args:
        logits: (N, K).
        ranks: (N,) int64 in [0, K - 1], higher is more salient; -1 is ignored.

    Returns:
        Scalar; zero, with gradients to the logits, where nothing is ranked.
    """
    number = mean_over_processes((ranks >= 0).sum().to(logits.dtype))
    total = F.cross_entropy(logits, ranks, ignore_index=-1, reduction="sum")
    return total / number.clamp(min=1)
