"""Detections of detectron2's two stages in a form for export: tables instead of lists of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.modeling.poolers import ROIPooler, assign_boxes_to_levels
from detectron2.structures import Boxes
from torch import Tensor

from ..layers.batching import inside_images
from ..layers.nms import kept_by_nms
from ..layers.roi_pooler import pool_by_level
from ..ranking.flat import FlatDetections, flat_detections

__all__ = ["detect_flat", "pool_flat", "propose_flat"]

_MOST_CANDIDATES = 4000  # of an image, before suppression; so many confident ones are not seen


def pool_flat(pooler: ROIPooler, levels: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
    """Return what ``pooler`` returns, (N, C, R, R), for boxes (N, 4) with the image (N,) of each."""
    rois = torch.cat([image_index.clamp(min=0)[:, None].to(boxes.dtype), boxes], dim=1)
    rule = (pooler.min_level, pooler.max_level, pooler.canonical_box_size, pooler.canonical_level)
    return pool_by_level(pooler.level_poolers, levels, rois, assign_boxes_to_levels([Boxes(boxes)], *rule))


def propose_flat(rpn: Any, features: dict[str, Tensor], image_sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the proposals of detectron2's ``RPN`` as tables.

    Args:
        rpn: the proposal generator.
        features: name -> (B, C, H, W).
        image_sizes: (B, 2) int64 height and width without padding.

    Returns:
        Boxes (B, P, 4) XYXY, best first, and which of them exist (B, P).
    """
    levels = [features[name] for name in rpn.in_features]
    logits, deltas = rpn.rpn_head(levels)
    anchors = rpn.anchor_generator(levels)
    boxes, scores, numbers = [], [], []
    for level, (anchor, score, delta) in enumerate(zip(anchors, logits, deltas, strict=True)):
        score = score.permute(0, 2, 3, 1).flatten(1)
        delta = delta.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        score, index = score.topk(torch.sym_min(rpn.pre_nms_topk[False], score.shape[1]), dim=1)
        delta = delta.gather(1, index[..., None].expand(-1, -1, 4))
        moved = rpn.box2box_transform.apply_deltas(delta.flatten(0, 1), anchor.tensor[index].flatten(0, 1))
        boxes.append(inside_images(moved.unflatten(0, score.shape), image_sizes))
        scores.append(score)
        numbers.append(torch.full_like(index, level))
    score, order = torch.cat(scores, dim=1).sort(dim=1, descending=True, stable=True)
    box = torch.cat(boxes, dim=1).gather(1, order[..., None].expand(-1, -1, 4))
    level_numbers = torch.cat(numbers, dim=1).gather(1, order)
    # Suppression needs the order only, and scores that are not negative.
    place = torch.arange(score.shape[1], 0, -1, device=score.device, dtype=score.dtype)
    sides = box[..., 2:] - box[..., :2]
    exists = (sides > rpn.min_box_size).all(dim=-1) & score.isfinite()
    kept = kept_by_nms(box, place.where(exists, -1.0), level_numbers, len(levels), rpn.nms_thresh)
    best, index = place.where(kept, -1.0).topk(torch.sym_min(rpn.post_nms_topk[False], score.shape[1]), dim=1)
    return box.gather(1, index[..., None].expand(-1, -1, 4)), best >= 0


def detect_flat(
    heads: Any, features: dict[str, Tensor], proposals: Tensor, exist: Tensor, image_sizes: Tensor
) -> FlatDetections:
    """Return the detections of the box head of detectron2's ``StandardROIHeads``.

    Args:
        heads: the ROI heads.
        features: name -> (B, C, H, W).
        proposals, exist: of :func:`propose_flat`.
        image_sizes: (B, 2) int64.
    """
    number, count = proposals.shape[:2]
    image_index = torch.arange(number, device=proposals.device)[:, None].expand(-1, count).flatten()
    levels = [features[name] for name in heads.box_in_features]
    boxes = proposals.flatten(0, 1)
    logits, deltas = heads.box_predictor(
        heads.box_head(pool_flat(heads.box_pooler, levels, boxes, image_index))
    )
    score = torch.softmax(logits, dim=-1)[:, :-1]
    box = heads.box_predictor.box2box_transform.apply_deltas(deltas, boxes).unflatten(1, (-1, 4))
    box = box.expand(-1, score.shape[1], -1)

    score = score.masked_fill(~(score > heads.box_predictor.test_score_thresh), -1.0)
    score = score.unflatten(0, (number, count)).masked_fill(~exist[..., None], -1.0).flatten(1)
    box = inside_images(box.unflatten(0, (number, count)).flatten(1, 2), image_sizes)
    score, order = score.topk(torch.sym_min(_MOST_CANDIDATES, score.shape[1]), dim=1)
    box = box.gather(1, order[..., None].expand(-1, -1, 4))
    classes = order % heads.num_classes
    kept = kept_by_nms(box, score, classes, heads.num_classes, heads.box_predictor.test_nms_thresh)
    if heads.box_predictor.test_topk_per_image >= 0:
        kept = kept & (kept.long().cumsum(dim=1) <= heads.box_predictor.test_topk_per_image)
    return flat_detections(kept, box, score, classes)
