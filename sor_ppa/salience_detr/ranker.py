"""Salience-DETR that segments and ranks what it detects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import build_roi_heads
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor

from ..layers.detr.boxes import cxcywh_to_xyxy
from ..layers.detr.detections import TopDetections, clip_in_images
from ..layers.nms import kept_by_nms
from ..ranking.flat import flat_detections
from .detector import SalienceDETR
from .transformer import SalienceOutput


@META_ARCH_REGISTRY.register()
class RankingSalienceDETR(SalienceDETR):
    """Salience-DETR whose boxes feed the mask head, the mask IoU head and the PPA branch.

    ROI features are pooled from the *fused* maps, the outputs of the cross-level token fusion, which the
    decoder reads, too. Like an FPN they have one width and strides 8, 16, 32, ..., and they hold the refined
    salient tokens. ``MODEL.ROI_HEADS.IN_FEATURES`` calls them ``p<log2 stride>``: p3, p4, p5, p6.

    Args:
        roi_heads: registered ROI heads that work on given boxes (``CenterROIHeads``).
        first_level: log2 of the stride of the finest map.
        train_proposals: best queries per image that become proposals in training.
        nms_threshold: IoU above which the less confident of two detections of a class is removed;
            negative: never.
    """

    #: Images of an exported graph have one size and no padding.
    export_divisibility = 1

    @configurable
    def __init__(
        self, *, roi_heads: Any, first_level: int, train_proposals: int, nms_threshold: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.roi_heads = roi_heads
        self.first_level = first_level
        self.train_proposals = train_proposals
        self.nms_threshold = nms_threshold

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into arguments."""
        arguments = super().from_config(cfg)
        node = cfg.MODEL.SALIENCE_DETR
        strides = arguments["backbone"].output_shape()
        first = strides[node.IN_FEATURES[0]].stride.bit_length() - 1
        shapes = {
            f"p{level}": ShapeSpec(channels=node.DIM, stride=2**level)
            for level in range(first, first + node.NUM_LEVELS)
        }
        return arguments | {
            "roi_heads": build_roi_heads(cfg, shapes),
            "first_level": first,
            "train_proposals": node.TRAIN_PROPOSALS,
            "nms_threshold": node.TEST_NMS,
        }

    def _features(self, output: SalienceOutput) -> dict[str, Tensor]:
        return {f"p{self.first_level + level}": feature for level, feature in enumerate(output.maps)}

    def losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the weighted losses of the detector and of the ROI heads."""
        batch, output, losses = self.detect_and_score(batched_inputs)
        proposals = self._proposals(output, batch)
        instances = [item["instances"].to(self.device) for item in batched_inputs]
        _, roi_losses = self.roi_heads(batch, self._features(output), proposals, instances)
        return losses | roi_losses

    @torch.no_grad()
    def _proposals(self, output: SalienceOutput, batch: ImageList) -> list[Instances]:
        """Return the boxes of the best matching queries of the last layer, in pixels of the batch."""
        queries = output.proposals.index.shape[1]  # matching queries come after the denoising ones
        logits, boxes = output.logits[-1, :, -queries:], output.boxes[-1, :, -queries:]
        best = logits.amax(-1).topk(min(self.train_proposals, queries), dim=1).indices
        corners = cxcywh_to_xyxy(boxes.gather(1, best.unsqueeze(-1).expand(-1, -1, 4)))
        proposals = []
        for image_boxes, (height, width) in zip(corners, batch.image_sizes, strict=True):
            scaled = Boxes(image_boxes * image_boxes.new_tensor([width, height, width, height]))
            scaled.clip((height, width))
            instances = Instances((height, width))
            instances.proposal_boxes = scaled[scaled.nonempty()]
            proposals.append(instances)
        return proposals

    def results(
        self, output: SalienceOutput, batch: ImageList, inputs: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return ``{"instances": Instances}`` per image with masks and ranks, at its output size."""
        detected = self.instances(output, batch.image_sizes)
        ranked = self.roi_heads.forward_with_given_boxes(self._features(output), detected)
        results = []
        for instances, item in zip(ranked, inputs, strict=True):
            height, width = instances.image_size
            size = int(item.get("height", height)), int(item.get("width", width))
            results.append({"instances": detector_postprocess(instances, *size)})
        return results

    def detect(self, batched_inputs: Sequence[dict[str, Any]]) -> tuple[dict[str, Tensor], list[Instances]]:
        """Return the arguments of ``roi_heads.forward_with_given_boxes`` for images of one size.

        They are the features (B, C, H, W) by name and per image ``pred_boxes``, ``scores`` and
        ``pred_classes`` in pixels of the network's input.
        """
        batch = self.batch([item["image"] for item in batched_inputs])
        output = self.transformer(*self.feature_maps(batch))
        return self._features(output), self.instances(output, batch.image_sizes)

    def select(self, output: SalienceOutput, sizes: Tensor) -> tuple[TopDetections, Tensor]:
        """Return :meth:`SalienceDETR.select` with boxes inside the images, after NMS."""
        found, kept = super().select(output, sizes)
        boxes, full = clip_in_images(found.boxes, sizes)
        kept = kept & full
        if self.nms_threshold >= 0:
            scores = found.scores.masked_fill(~kept, -1.0)
            kept = kept_by_nms(boxes, scores, found.labels, len(self.label_ids), self.nms_threshold)
        return replace(found, boxes=boxes), kept

    def infer_flat(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Return the predictions for images of one size as flat tensors, in a form for export.

        Args:
            images: (B, 3, H, W) float32 in 0..255, without padding.
            sizes: (B, 2) int64, each (H, W).

        Returns:
            See :func:`~sor_ppa.ranking.flat.flat_predictions`.
        """
        output = self.transformer(*self.same_size_maps(images))
        best, kept = self.select(output, sizes)
        found = flat_detections(kept, best.boxes, best.scores, best.labels)
        return self.roi_heads.rank_flat(self._features(output), sizes, found)
