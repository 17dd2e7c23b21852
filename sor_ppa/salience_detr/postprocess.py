"""From the decoder's predictions to detections."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sor_ppa.layers.boxes import cxcywh_to_xyxy

__all__ = ["Detections", "select_detections"]


@dataclass(frozen=True)
class Detections:
    """The best (query, class) pairs of a batch, best first."""

    #: ``(B, n)``.
    scores: Tensor
    #: ``(B, n)`` int64.
    labels: Tensor
    #: ``(B, n)`` int64.
    queries: Tensor
    #: ``(B, n, 4)`` corner format, normalised.
    boxes: Tensor


@torch.no_grad()
def select_detections(logits: Tensor, boxes: Tensor, count: int = 300) -> Detections:
    """The ``count`` highest class probabilities of an image; a query may appear with several classes.

    Args:
        logits: ``(B, Q, K)``.
        boxes: ``(B, Q, 4)`` normalised (cx, cy, w, h).
        count: detections per image, fewer where Q * K is smaller.
    """
    classes = logits.shape[-1]
    probability = logits.sigmoid().flatten(1)
    scores, index = probability.topk(min(count, probability.shape[1]), dim=1)
    queries = torch.div(index, classes, rounding_mode="floor")
    corners = cxcywh_to_xyxy(boxes).gather(1, queries.unsqueeze(-1).expand(-1, -1, 4))
    return Detections(scores=scores, labels=index % classes, queries=queries, boxes=corners)
