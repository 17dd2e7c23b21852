"""The ranking branch on detectron2's own ROI heads (Mask R-CNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import ROI_HEADS_REGISTRY, StandardROIHeads
from detectron2.modeling.roi_heads import select_foreground_proposals
from detectron2.modeling.roi_heads.mask_head import mask_rcnn_inference, mask_rcnn_loss
from detectron2.structures import Instances
from torch import Tensor

from ..config.thresholds import score_threshold
from ..layers.precision import at_least_float32, full_precision
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
from ..ranking.flat import flat_predictions, with_spare_object
from .flat import detect_flat, pool_flat, propose_flat

__all__ = ["MaskRCNNHeads"]


@ROI_HEADS_REGISTRY.register()
class MaskRCNNHeads(StandardROIHeads):
    """Predict boxes and masks as Mask R-CNN does, and ranks from the pooled mask features.

    Args:
        ranking_head: the ranking head.
        ranking: its options.
        strides: of ``mask_in_features`` in pixels.
        rank_on_logits: in training, feed mask logits instead of probabilities to the ranking head, as the
            published code does. Inference always uses probabilities.
        kwargs: of detectron2's ``StandardROIHeads``.
    """

    @configurable
    def __init__(
        self,
        *,
        ranking_head: RankingHead,
        ranking: RankingOptions,
        strides: Sequence[int],
        rank_on_logits: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        assert self.mask_on, "MaskRCNNHeads rank by masks: MASK_ON must be True"
        assert self.mask_pooler is not None, "MaskRCNNHeads pool mask features apart from box features"
        self.sor_head = ranking_head
        self.ranking = ranking
        self.strides = list(strides)
        self.rank_on_logits = rank_on_logits

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> dict:
        names = cfg.MODEL.ROI_HEADS.IN_FEATURES
        strides = [input_shape[name].stride for name in names]
        side = cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION
        shape = ShapeSpec(channels=input_shape[names[0]].channels, width=side, height=side)
        standard = super().from_config(cfg, input_shape)
        threshold = score_threshold(cfg, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)
        standard["box_predictor"].test_score_thresh = threshold
        return standard | {
            "ranking_head": build_sor_head(cfg, shape),
            "ranking": RankingOptions.from_config(cfg, published_threshold=0.0, divisibility=max(strides)),
            "strides": strides,
            "rank_on_logits": cfg.MODEL.SOR.RANK_ON_LOGITS,
        }

    def _pool(
        self, features: dict[str, Tensor], boxes: Sequence[Any], image_sizes: Sequence[tuple[int, int]]
    ) -> tuple[Tensor, Tensor | None]:
        levels = [at_least_float32(features[name]) for name in self.mask_in_features]
        pooled = self.mask_pooler(levels, boxes)
        if not self.sor_head.needs_maps:
            return pooled, None
        return pooled, self.mask_pooler(pyramid_maps(levels, self.strides, image_sizes, self.ranking), boxes)

    def detect(self, features: dict[str, Tensor], proposals: list[Instances]) -> list[Instances]:
        """Return the box head's detections for the proposals of each image, in inference.

        Pooling and the box predictor run in float32, so autocast rounds neither boxes nor scores.
        """
        levels = [at_least_float32(features[name]) for name in self.box_in_features]
        pooled = self.box_pooler(levels, [x.proposal_boxes for x in proposals])
        predictions = full_precision(self.box_predictor, self.box_head(pooled))
        return self.box_predictor.inference(predictions, proposals)[0]

    def _forward_box(
        self, features: dict[str, Tensor], proposals: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return the losses of the box head in training, its detections in inference."""
        if not self.training:
            return self.detect(features, proposals)
        return super()._forward_box({k: at_least_float32(v) for k, v in features.items()}, proposals)

    def _forward_mask(
        self, features: dict[str, Tensor], instances: list[Instances]
    ) -> dict[str, Tensor] | list[Instances]:
        """Return mask and ranking losses in training, instances with masks and ranks in inference.

        Args:
            features: name -> (B, C, H, W).
            instances: sampled proposals in training, detections in inference.

        Returns:
            ``mask_loss`` and ``sor_loss``; or the instances with ``pred_masks``, ``mask_scores`` (the
            scores), ``pred_ranks``, ``pred_rank_scores`` and ``pred_rank_logits``.
        """
        sizes = [x.image_size for x in instances]
        if not self.training:
            boxes = [x.pred_boxes for x in instances]
            pooled, maps = self._pool(features, boxes, sizes)
            mask_rcnn_inference(self.mask_head.layers(pooled), instances)
            masks = torch.cat([x.pred_masks for x in instances])
            tensors = [b.tensor for b in boxes]
            ranked = predict_ranks(self.sor_head, pooled, masks, maps, tensors, sizes, self.ranking)
            set_fields(
                instances, {"mask_scores": torch.cat([x.scores for x in instances]), **ranked.fields()}
            )
            return instances

        positive, _ = select_foreground_proposals(instances, self.num_classes)
        boxes = [x.proposal_boxes for x in positive]
        pooled, maps = self._pool(features, boxes, sizes)
        logits = self.mask_head.layers(pooled)
        losses = {"mask_loss": mask_rcnn_loss(logits, positive)}
        classes = torch.cat([x.gt_classes for x in positive])
        chosen = logits if logits.shape[1] == 1 else logits.gather(1, _as_index(classes, logits))
        masks = chosen if self.rank_on_logits else chosen.sigmoid()
        ranks = torch.cat([ground_truth_ranks(x) for x in positive])
        tensors = [b.tensor for b in boxes]
        objects = torch.cat([_matched_objects(x) for x in positive])
        losses |= ranking_losses(
            self.sor_head, pooled, masks, maps, tensors, sizes, ranks, self.ranking, objects
        )
        return losses

    def infer_flat(self, features: dict[str, Tensor], image_sizes: Tensor, rpn: Any) -> dict[str, Tensor]:
        """Return detections, masks and ranks of all objects of a batch, in a form for export.

        Args:
            features: name -> (B, C, H, W).
            image_sizes: (B, 2) int64 height and width without padding.
            rpn: the proposal generator.

        Returns:
            See :func:`~sor_ppa.ranking.flat.flat_predictions`; masks (N, 1, 2R, 2R).
        """
        found = detect_flat(self, features, *propose_flat(rpn, features, image_sizes), image_sizes)
        image_index, boxes, classes = with_spare_object(found.image_index, found.boxes, found.classes)
        levels = [features[name] for name in self.mask_in_features]
        pooled = pool_flat(self.mask_pooler, levels, boxes, image_index)
        maps = None
        if self.sor_head.needs_maps:
            pyramid = pyramid_maps(levels, self.strides, image_sizes, self.ranking)
            maps = pool_flat(self.mask_pooler, pyramid, boxes, image_index)
        logits = self.mask_head.layers(pooled)
        masks = (logits if logits.shape[1] == 1 else logits.gather(1, _as_index(classes, logits))).sigmoid()
        return flat_predictions(
            self.sor_head, found, pooled, masks, maps, boxes, image_index, image_sizes, self.ranking
        )


def _matched_objects(proposals: Instances) -> Tensor:
    """Return a number (N,) for each proposal, equal for those of one object, which its box tells."""
    if not proposals.has("gt_boxes"):  # an image without objects
        return torch.zeros_like(proposals.gt_classes)
    return proposals.gt_boxes.tensor.unique(dim=0, return_inverse=True)[1]


def _as_index(classes: Tensor, logits: Tensor) -> Tensor:
    return classes[:, None, None, None].expand(-1, 1, *logits.shape[2:])
