"""The best predictions of an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..batching import corner_limits, inside_images
from .boxes import cxcywh_to_xyxy


@dataclass(frozen=True)
class TopDetections:
    """The n most confident detections of every image of a batch, best first: ``(B, n)`` tensors."""

    scores: Tensor
    labels: Tensor
    #: ``(B, n, 4)`` corner format, normalized.
    boxes: Tensor


@torch.no_grad()
def select_detections(logits: Tensor, boxes: Tensor, count: int, softmax: bool = False) -> TopDetections:
    """Select the ``count`` most probable detections of every image.

    Args:
        logits: ``(B, Q, K)``.
        boxes: ``(B, Q, 4)`` normalized (cx, cy, w, h).
        count: detections per image; fewer where there are fewer candidates.
        softmax: take the best class of every query, where the last one means "no object". Otherwise take the
            best (query, class) pairs by their sigmoid; a query may then appear with several classes.
    """
    if softmax:
        best, labels = logits.softmax(-1)[..., :-1].max(-1)
        scores, queries = best.topk(min(count, best.shape[1]), dim=1)
        labels = labels.gather(1, queries)
    else:
        scores, index = logits.sigmoid().flatten(1).topk(min(count, logits[0].numel()), dim=1)
        queries, labels = index // logits.shape[2], index % logits.shape[2]
    corners = cxcywh_to_xyxy(boxes).gather(1, queries.unsqueeze(-1).expand(-1, -1, 4))
    return TopDetections(scores, labels, corners)


def in_pixels(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Return boxes ``(B, n, 4)`` of images of (height, width) ``sizes`` ``(B, 2)`` in their pixels."""
    return boxes * corner_limits(sizes)


def clip_in_images(boxes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes ``(B, n, 4)`` in pixels, clipped to images as in :func:`in_pixels`.

    The second result ``(B, n)`` says which of them are not empty then.
    """
    clipped = inside_images(boxes, sizes)
    return clipped, (clipped[..., 2:] > clipped[..., :2]).all(-1)
