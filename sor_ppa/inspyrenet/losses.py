"""Training losses of InSPyReNet, section 3.3."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .network import SaliencyPyramid
from .pyramid import reduce

__all__ = ["iou_loss", "pyramid_losses", "weighted_bce"]

CONSISTENCY_WEIGHT = 1e-4
# Side in pixels of the window in which a pixel is compared with its surroundings.
WINDOW = 31


def weighted_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Return the mean binary cross entropy, in which pixels near edges have up to six times the weight.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W) in [0, 1].
    """
    around = F.avg_pool2d(target, WINDOW, stride=1, padding=WINDOW // 2)
    weight = 1 + 5 * (around - target).abs()
    return F.binary_cross_entropy_with_logits(logits, target, weight)


def iou_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return one minus the (smoothed) intersection over union of each pixel, the mean over pixels.

    Args:
        logits: (B, 1, H, W).
        target: (B, 1, H, W) in [0, 1].
    """
    probability = logits.sigmoid()
    both = probability * target
    return (1 - (both + 1) / (probability + target - both + 1)).mean()


def pyramid_losses(pyramid: SaliencyPyramid, mask: Tensor) -> dict[str, Tensor]:
    """Compute the losses of all levels; their sum is the training loss.

    Args:
        pyramid: of the network, in training mode.
        mask: (B, 1, H, W) in [0, 1] at image size; soft values are allowed.

    Returns:
        ``loss_bce{i}`` and ``loss_iou{i}`` for levels 3 ... 0, ``loss_consistency{i}`` for 3 ... 1.
    """
    size = mask.shape[-2:]
    d0 = pyramid.saliency[-1]
    assert len(mask) == len(d0)
    assert all(0 <= full - side < 8 for full, side in zip(d0.shape[-2:], size, strict=True))
    targets = [mask]
    for _ in range(3):
        targets.append(reduce(targets[-1]))

    def at_image_size(x: Tensor) -> Tensor:
        return F.interpolate(x, size, mode="nearest")

    losses: dict[str, Tensor] = {}
    for level, logits in zip((3, 2, 1, 0), pyramid.saliency, strict=True):
        logits, target = at_image_size(logits), at_image_size(targets[level])
        losses[f"loss_bce{level}"] = weighted_bce(logits, target)
        losses[f"loss_iou{level}"] = iou_loss(logits, target)
    for level, coarse, fine in zip((3, 2, 1), pyramid.saliency, pyramid.saliency[1:], strict=False):
        with torch.no_grad():
            expected = at_image_size(reduce(fine))
        consistency = F.l1_loss(at_image_size(coarse), expected)
        losses[f"loss_consistency{level}"] = CONSISTENCY_WEIGHT * consistency
    return losses
