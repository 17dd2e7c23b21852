"""The best predictions of an image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import nms

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


@dataclass(frozen=True)
class FlatDetections:
    """Detections of all images of a batch on one axis: images in order, best first within an image."""

    #: ``(N,)`` int64, rising.
    image_index: Tensor
    #: ``(N, 4)`` corner format in pixels.
    boxes: Tensor
    scores: Tensor
    classes: Tensor

    def take(self, rows: Tensor) -> FlatDetections:
        """Return the detections of rising rows, or those where a mask is true."""
        return FlatDetections(self.image_index[rows], self.boxes[rows], self.scores[rows], self.classes[rows])

    def clipped(self, sizes: Tensor) -> FlatDetections:
        """Clip boxes to images of (height, width) ``sizes`` ``(B, 2)``; drop those that are then empty."""
        limits = sizes.flip(1).repeat(1, 2)[self.image_index].to(self.boxes.dtype)
        boxes = self.boxes.clamp(min=0).minimum(limits)
        full = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return FlatDetections(self.image_index, boxes, self.scores, self.classes).take(full)

    def without_overlaps(self, iou_threshold: float, sizes: Tensor) -> FlatDetections:
        """Drop detections that overlap a better one of the same image and class by more than a threshold."""
        group = self.classes * sizes.shape[0] + self.image_index
        reach = 2 * sizes.max() + 1  # boxes extend beyond an image by half its size at most
        apart = self.boxes + (group * reach)[:, None]
        return self.take(nms(apart, self.scores, iou_threshold).sort().values)


def flat_detections(best: TopDetections, classes: Tensor, wanted: Tensor, sizes: Tensor) -> FlatDetections:
    """Return the wanted detections of a batch on one axis.

    Args:
        best: of every image.
        classes: ``(B, n)`` int64 classes of the dataset.
        wanted: ``(B, n)`` bool.
        sizes: ``(B, 2)`` (height, width) of the images in pixels.
    """
    image_index, column = wanted.nonzero(as_tuple=True)
    scale = sizes.flip(1).repeat(1, 2)[image_index]
    found = (tensor[image_index, column] for tensor in (best.boxes, best.scores, classes))
    boxes, scores, labels = found
    return FlatDetections(image_index, boxes * scale, scores, labels)
