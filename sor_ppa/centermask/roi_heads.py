"""The ROI heads of CenterMask with the ranking branch: masks, mask IoU, ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.roi_heads import build_mask_head
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou
from torch import Tensor, nn

from ..layers import PyramidROIPooler
from ..ranking import (
    RankingHead,
    RankingOptions,
    build_sor_head,
    ground_truth_ranks,
    predict_ranks,
    pyramid_maps,
    ranking_losses,
    set_fields,
)
from ..ranking.flat import FlatDetections, flat_predictions, with_spare_object
from .mask_targets import crop_masks, mask_iou_targets, mask_loss, visible_fractions
from .maskiou_head import build_maskiou_head, mask_iou_loss

__all__ = ["CenterROIHeads", "Positives", "select_positives"]


@dataclass(frozen=True)
class Positives:
    """The proposals of one image that the heads are trained on.

    Attributes:
        boxes: (N, 4) XYXY in pixels.
        index: (N,) int64, the ground-truth object of each box.
    """

    boxes: Tensor
    index: Tensor


@torch.no_grad()
def select_positives(
    proposals: Tensor, gt_boxes: Tensor, matcher: Matcher, limit: int, append_gt: bool = True
) -> Positives:
    """Return the proposals that match an object.

    Without a box head, negatives are not needed and not sampled.

    Args:
        proposals: (N, 4) XYXY in pixels.
        gt_boxes: (G, 4).
        matcher: decides from the IoU matrix (G, N).
        limit: largest number of positives; a random choice if there are more.
        append_gt: add the ground-truth boxes to the proposals.
    """
    if append_gt:
        proposals = torch.cat([proposals, gt_boxes])
    if len(gt_boxes) == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=proposals.device)
        return Positives(proposals[empty], empty)
    index, labels = matcher(pairwise_iou(Boxes(gt_boxes), Boxes(proposals)))
    rows = torch.nonzero(labels == 1).squeeze(1)
    if len(rows) > limit:
        rows = rows[torch.randperm(len(rows), device=rows.device)[:limit]]
    return Positives(proposals[rows], index[rows])


@ROI_HEADS_REGISTRY.register()
class CenterROIHeads(nn.Module):
    """Predict masks, mask IoUs and ranks of boxes that a one-stage detector proposes.

    Args:
        in_features: names of the pyramid levels to pool from, finest first.
        strides: of those levels in pixels.
        pooler: of features (and position maps).
        mask_head: with ``layers(features) -> logits``.
        maskiou_head: or None.
        maskiou_weight: of its loss.
        ranking_head: or None.
        ranking: options of the ranking branch.
        matcher, positive_limit, append_gt: see :func:`select_positives`.

    Attributes:
        flat_mask_scores: whether :meth:`rank_flat` returns mask scores.
    """

    flat_mask_scores = False

    @configurable
    def __init__(
        self,
        *,
        in_features: Sequence[str],
        strides: Sequence[int],
        pooler: PyramidROIPooler,
        mask_head: Any,
        maskiou_head: nn.Module | None,
        maskiou_weight: float,
        ranking_head: RankingHead | None,
        ranking: RankingOptions,
        matcher: Matcher,
        positive_limit: int,
        append_gt: bool,
    ) -> None:
        super().__init__()
        self.in_features, self.strides = list(in_features), list(strides)
        self.mask_pooler, self.mask_head = pooler, mask_head
        self.maskiou_head, self.maskiou_weight = maskiou_head, maskiou_weight
        self.sor_head, self.ranking = ranking_head, ranking
        self.matcher, self.positive_limit, self.append_gt = matcher, positive_limit, append_gt

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        assert cfg.MODEL.MASK_ON, "CenterROIHeads segment every object: MASK_ON must be True"
        assert not cfg.MODEL.KEYPOINT_ON, "CenterROIHeads have no keypoint head: KEYPOINT_ON must be False"
        options = cfg.MODEL.ROI_MASK_HEAD
        strides = [input_shape[name].stride for name in names]
        resolution = options.POOLER_RESOLUTION
        pooling = (options.POOLER_SAMPLING_RATIO, options.POOLER_TYPE, options.ASSIGN_CRITERION)
        shape = ShapeSpec(channels=input_shape[names[0]].channels, width=resolution, height=resolution)
        heads = cfg.MODEL.ROI_HEADS
        return {
            "in_features": names,
            "strides": strides,
            "pooler": PyramidROIPooler(resolution, strides, *pooling),
            "mask_head": build_mask_head(cfg, shape),
            "maskiou_head": build_maskiou_head(cfg, shape) if cfg.MODEL.MASKIOU_ON else None,
            "maskiou_weight": cfg.MODEL.MASKIOU_LOSS_WEIGHT,
            "ranking_head": build_sor_head(cfg, shape) if cfg.MODEL.SOR.NAME else None,
            "ranking": RankingOptions.from_config(cfg, published_threshold=0.1, divisibility=max(strides)),
            "matcher": Matcher(heads.IOU_THRESHOLDS, heads.IOU_LABELS, allow_low_quality_matches=False),
            "positive_limit": int(heads.BATCH_SIZE_PER_IMAGE * heads.POSITIVE_FRACTION),
            "append_gt": heads.PROPOSAL_APPEND_GT,
        }

    def forward(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        proposals: list[Instances],
        targets: list[Instances] | None = None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Return losses in training, predictions in inference.

        Args:
            images: unused.
            features: name -> (B, C, H, W).
            proposals: per image; ``proposal_boxes`` in training, ``pred_boxes``, ``scores`` and
                ``pred_classes`` in inference.
            targets: per image, in training: ``gt_boxes``, ``gt_classes``, ``gt_masks`` and
                ``gt_ranks`` (int64, -1 without rank; may be missing where nothing is ranked).

        Returns:
            Instances and losses (``loss_mask``, ``loss_maskiou``, ``sor_loss``).
        """
        del images
        if self.training:
            assert targets is not None, "training needs ground-truth instances"
            return proposals, self.losses(features, proposals, targets)
        return self.forward_with_given_boxes(features, proposals), {}

    def _pool(
        self, features: dict[str, Tensor], boxes: Sequence[Tensor], image_sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor | None]:
        """Pool features (N, C, R, R) and, where the ranking head needs them, position maps (N, 2, R, R)."""
        levels = [features[name] for name in self.in_features]
        pyramids = [levels]
        if self.sor_head is not None and self.sor_head.needs_maps:
            pyramids.append(pyramid_maps(levels, self.strides, image_sizes, self.ranking))
        pooled = self.mask_pooler(pyramids, boxes, image_sizes)
        return pooled[0], pooled[1] if len(pooled) > 1 else None

    def losses(
        self, features: dict[str, Tensor], proposals: list[Instances], targets: list[Instances]
    ) -> dict[str, Tensor]:
        """Return the mask, mask IoU and ranking losses; arguments as in :meth:`forward`."""
        positives = [
            select_positives(
                p.proposal_boxes.tensor, t.gt_boxes.tensor, self.matcher, self.positive_limit, self.append_gt
            )
            for p, t in zip(proposals, targets, strict=True)
        ]
        boxes = [p.boxes for p in positives]
        sizes = [t.image_size for t in targets]
        pooled, maps = self._pool(features, boxes, sizes)
        classes = torch.cat([t.gt_classes[p.index] for p, t in zip(positives, targets, strict=True)])
        logits = _class_masks(self.mask_head.layers(pooled), classes).float()
        side = logits.shape[-1]
        matched = [(t.gt_masks, p.index, p.boxes) for p, t in zip(positives, targets, strict=True)]
        goals = torch.cat([crop_masks(*each, side) for each in matched])
        losses = {"loss_mask": mask_loss(logits, goals)}
        masks = logits.sigmoid()[:, None]
        if self.maskiou_head is not None:
            fractions = torch.cat([visible_fractions(*each) for each in matched])
            quality = mask_iou_targets(logits, goals, fractions)
            predicted = self.maskiou_head(pooled, masks)
            losses["loss_maskiou"] = mask_iou_loss(predicted, classes, quality, self.maskiou_weight)
        if self.sor_head is not None:
            ranks = torch.cat(
                [ground_truth_ranks(t)[p.index] for p, t in zip(positives, targets, strict=True)]
            )
            objects = torch.cat([p.index for p in positives])
            losses |= ranking_losses(
                self.sor_head, pooled, masks, maps, boxes, sizes, ranks, self.ranking, objects
            )
        return losses

    def detect(self, features: dict[str, Tensor], proposals: list[Instances]) -> list[Instances]:
        """Return the proposals: those of a one-stage detector are its detections."""
        del features
        return proposals

    def forward_with_given_boxes(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> list[Instances]:
        """Add masks, mask scores and ranks to given boxes.

        Args:
            features: name -> (B, C, H, W).
            instances: per image with ``pred_boxes``, ``scores`` and ``pred_classes``.

        Returns:
            The same objects with ``pred_masks`` (N, 1, 2R, 2R) probabilities, ``mask_scores`` (score
            times predicted mask IoU; the score where that head is off), and, with a ranking head,
            ``pred_ranks``, ``pred_rank_scores`` and ``pred_rank_logits``.
        """
        boxes = [x.pred_boxes.tensor for x in instances]
        sizes = [x.image_size for x in instances]
        pooled, maps = self._pool(features, boxes, sizes)
        classes = torch.cat([x.pred_classes for x in instances])
        masks = _class_masks(self.mask_head.layers(pooled), classes).float().sigmoid()[:, None]
        scores = torch.cat([x.scores for x in instances])
        if self.maskiou_head is not None:
            scores = scores * self._mask_quality(pooled, masks, classes)
        fields = {"pred_masks": masks, "mask_scores": scores}
        if self.sor_head is not None:
            ranked = predict_ranks(self.sor_head, pooled, masks, maps, boxes, sizes, self.ranking)
            fields |= ranked.fields()
        set_fields(instances, fields)
        return instances

    def infer_flat(
        self, features: dict[str, Tensor], image_sizes: Tensor, detector: Any
    ) -> dict[str, Tensor]:
        """Return masks and ranks of what a detector finds in a batch, in a form for export.

        Args:
            features: name -> (B, C, H, W).
            image_sizes: (B, 2) int64 height and width without padding.
            detector: the proposal generator, with ``detect_flat``.

        Returns:
            See :meth:`rank_flat`.
        """
        return self.rank_flat(features, image_sizes, detector.detect_flat(features))

    def rank_flat(
        self, features: dict[str, Tensor], image_sizes: Tensor, found: FlatDetections
    ) -> dict[str, Tensor]:
        """Return masks and ranks of given objects of a batch, in a form for export.

        Args:
            features: name -> (B, C, H, W).
            image_sizes: (B, 2) int64 height and width without padding.
            found: N objects.

        Returns:
            See :func:`~sor_ppa.ranking.flat.flat_predictions`; with ``flat_mask_scores`` also ``mask_scores``
            (N,), see :meth:`forward_with_given_boxes`.
        """
        assert self.sor_head is not None, "a model without ranking head is not exported"
        image_index, boxes, classes = with_spare_object(found.image_index, found.boxes, found.classes)
        levels = [features[name] for name in self.in_features]
        pyramids = [levels]
        if self.sor_head.needs_maps:
            pyramids.append(pyramid_maps(levels, self.strides, image_sizes, self.ranking))
        areas = image_sizes.prod(dim=1).to(boxes.dtype)
        pooled, *maps = self.mask_pooler.pool(pyramids, boxes, image_index, areas)
        masks = _class_masks(self.mask_head.layers(pooled), classes).sigmoid()[:, None]
        position = maps[0] if maps else None
        outputs = flat_predictions(
            self.sor_head, found, pooled, masks, position, boxes, image_index, image_sizes, self.ranking
        )
        if self.flat_mask_scores:
            # sliced last: OpenVINO loses a slice before a gather
            outputs["mask_scores"] = found.scores * self._mask_quality(pooled, masks, classes)[:-1]
        return outputs

    def _mask_quality(self, pooled: Tensor, masks: Tensor, classes: Tensor) -> Tensor:
        """Return the predicted IoU (N,) of each mask with its object, of its class."""
        assert self.maskiou_head is not None
        quality: Tensor = self.maskiou_head(pooled, masks).float()
        return quality.gather(1, classes[:, None]).squeeze(1)


def _class_masks(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the mask of each object's class: (N, C, S, S) -> (N, S, S)."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(logits), device=logits.device), classes]
