"""Classification losses of DETR-like detectors, as sums over all entries."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

__all__ = ["soft_focal_loss", "varifocal_loss"]


def varifocal_loss(logits: Tensor, quality: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Varifocal loss with the weight held constant (VarifocalNet, eq. 2; as used by RT-DETR).

    A positive entry has the IoU of its box as target and as weight; a negative one has target 0
    and weight ``(1 - alpha) p^gamma``.

    Args:
        logits: ``(..., K)``.
        quality: ``(..., K)``; IoU in [0, 1] at positive entries, negative numbers elsewhere.
        alpha: 1 - weight of the negatives.
        gamma: exponent of the negatives.

    Returns:
        the sum, a scalar.
    """
    positive = quality >= 0
    target = quality.clamp(min=0).to(logits.dtype)
    negative_weight = (1 - alpha) * logits.detach().sigmoid().pow(gamma)
    weight = negative_weight.masked_fill(positive, 0.0) + target
    return F.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")


def soft_focal_loss(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Sigmoid focal loss with targets between 0 and 1 (Salience-DETR, eq. 4).

    Args:
        logits: any shape.
        target: the same shape, in [0, 1].
        alpha: weight of the positive part.
        gamma: focusing exponent; the gradient also flows through the weight.

    Returns:
        the sum, a scalar.
    """
    p = logits.sigmoid()
    target = target.to(logits.dtype)
    weight = (1 - alpha) * p**gamma * (1 - target) + alpha * (1 - p) ** gamma * target
    return (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum()
