"""Selecting the boxes of each image from the predictions of FCOS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..layers.nms import kept_by_nms

__all__ = ["Candidates", "Detections", "ProposalOptions", "select_candidates", "select_proposals"]


@dataclass(frozen=True)
class ProposalOptions:
    """Settings of the selection.

    Attributes:
        threshold: a candidate's class probability exceeds it.
        pre_nms: candidates kept per level.
        post_nms: boxes kept per image, and those that tie with the last; not positive: all.
        nms_threshold: IoU of suppression; not positive: none.
        threshold_with_centerness: compare the threshold with class probability times centerness.
    """

    threshold: float
    pre_nms: int
    post_nms: int
    nms_threshold: float
    threshold_with_centerness: bool = False


@dataclass(frozen=True)
class Detections:
    """Boxes of one image, best first.

    Attributes:
        boxes: (N, 4) XYXY in pixels, not clipped.
        scores: (N,) square root of class probability times centerness.
        classes: (N,) int64.
        locations: (N, 2) x, y in pixels of the location that predicts the box.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    locations: Tensor


def _level_candidates(
    location: Tensor,
    logits: Tensor,
    distance: Tensor,
    centerness: Tensor,
    stride: int,
    options: ProposalOptions,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a fixed number of candidates of one level per image, best first; unused ones score -1."""
    num_classes = logits.shape[-1]
    probability = logits.sigmoid()
    product = probability * centerness.sigmoid()[..., None]
    judged = product if options.threshold_with_centerness else probability
    score = product.masked_fill(~(judged > options.threshold), -1.0).flatten(1)
    score, index = score.topk(torch.sym_min(options.pre_nms, score.shape[1]), dim=1)
    place = torch.div(index, num_classes, rounding_mode="floor")
    point = location[place]
    side = distance.gather(1, place[..., None].expand(-1, -1, 4)) * stride
    boxes = torch.cat([point - side[..., :2], point + side[..., 2:]], dim=-1)
    return boxes, score, index % num_classes, point


@dataclass(frozen=True)
class Candidates:
    """Boxes of a batch in tables, best first in each image; the fields are those of :class:`Detections`.

    Attributes:
        kept: (B, M) bool, which of them are selected.
        boxes: (B, M, 4).
        scores, classes: (B, M).
        locations: (B, M, 2).
    """

    kept: Tensor
    boxes: Tensor
    scores: Tensor
    classes: Tensor
    locations: Tensor


@torch.no_grad()
def select_candidates(
    locations: Sequence[Tensor],
    logits: Sequence[Tensor],
    distances: Sequence[Tensor],
    centerness: Sequence[Tensor],
    strides: Sequence[int],
    options: ProposalOptions,
) -> Candidates:
    """Return the candidates of each image; arguments as in :func:`select_proposals`."""
    levels = [
        _level_candidates(*level, options)
        for level in zip(locations, logits, distances, centerness, strides, strict=True)
    ]
    boxes, score, classes, points = (torch.cat(parts, dim=1) for parts in zip(*levels, strict=True))
    score, order = score.sort(dim=1, descending=True, stable=True)
    boxes, points = (x.gather(1, order[..., None].expand_as(x)) for x in (boxes, points))
    classes = classes.gather(1, order)
    kept = score >= 0
    score = score.sqrt().masked_fill(~kept, -1.0)
    if options.nms_threshold > 0:
        kept = kept_by_nms(boxes, score, classes, logits[0].shape[-1], options.nms_threshold)
    if options.post_nms > 0:
        left = score.masked_fill(~kept, -1.0)
        last = left.topk(torch.sym_min(options.post_nms, left.shape[1]), dim=1).values[:, -1:]
        kept = kept & (score >= last)
    return Candidates(kept, boxes, score, classes, points)


def select_proposals(
    locations: Sequence[Tensor],
    logits: Sequence[Tensor],
    distances: Sequence[Tensor],
    centerness: Sequence[Tensor],
    strides: Sequence[int],
    options: ProposalOptions,
) -> list[Detections]:
    """Return the best boxes of each image above the threshold, after non-maximum suppression.

    Args:
        locations: per level (L_l, 2) centers in pixels.
        logits: per level (B, L_l, C).
        distances: per level (B, L_l, 4) in strides.
        centerness: per level (B, L_l) logits.
        strides: per level, in pixels.
        options: see :class:`ProposalOptions`.

    Returns:
        One :class:`Detections` per image.
    """
    found = select_candidates(locations, logits, distances, centerness, strides, options)
    tables = (found.boxes, found.scores, found.classes, found.locations)
    rows = [torch.nonzero(kept).squeeze(1) for kept in found.kept]
    return [Detections(*(x[i][index] for x in tables)) for i, index in enumerate(rows)]
