"""Non-maximum suppression for the images of a batch, as one operator that exporters can replace."""

from __future__ import annotations

import torch
from detectron2.layers import batched_nms
from torch import Tensor

__all__ = ["kept_by_nms"]


@torch.library.custom_op("sor_ppa::kept_by_nms", mutates_args=())
def kept_by_nms(boxes: Tensor, scores: Tensor, classes: Tensor, num_classes: int, threshold: float) -> Tensor:
    """Return which boxes of each image non-maximum suppression keeps; it works within a class.

    Args:
        boxes: (B, M, 4) XYXY in pixels.
        scores: (B, M); boxes of a negative score are left out.
        classes: (B, M) int64.
        num_classes: of the detector.
        threshold: a box is dropped whose IoU with a better one of its class exceeds it.

    Returns:
        (B, M) bool.
    """
    del num_classes  # for exporters
    kept = torch.zeros_like(scores, dtype=torch.bool)
    for image in range(len(boxes)):
        rows = torch.nonzero(scores[image] >= 0).squeeze(1)
        part = (x[image][rows] for x in (boxes, scores, classes))
        kept[image, rows[batched_nms(*part, threshold)]] = True
    return kept


@kept_by_nms.register_fake
def _(boxes: Tensor, scores: Tensor, classes: Tensor, num_classes: int, threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)
