"""A DETR that segments and ranks: its boxes go to ROI heads with the PPA branch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.roi_heads import build_roi_heads
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from ..layers.detr.detections import clip_in_images
from ..layers.detr.levels import Memory
from ..ranking.flat import flat_detections
from .base import Features
from .detector import DETRDetector, at_original_size


@META_ARCH_REGISTRY.register()
class RankingDETR(DETRDetector):
    """Detect with a transformer, then segment and rank the detected objects.

    A feature pyramid joins the backbone maps with the encoder's memory, which is concatenated to the coarsest
    map. So masks and ranks use the features of the transformer without losing spatial detail.

    Args:
        roi_heads: the heads of ``MODEL.ROI_HEADS.NAME``, such as ``CenterROIHeads``.
        fine_features: backbone features below the coarsest, fine to coarse.
        pyramid: from those and the coarsest feature with the memory to ``pyramid_names``.
        pyramid_names: of the levels, fine to coarse.
        **detector: of :class:`DETRDetector`.
    """

    #: Images of an exported graph have one size and no padding.
    export_divisibility = 1

    @configurable
    def __init__(
        self,
        *,
        roi_heads: Any,
        fine_features: tuple[str, ...],
        pyramid: nn.Module,
        pyramid_names: tuple[str, ...],
        **detector: Any,
    ) -> None:
        super().__init__(**detector)
        self.roi_heads = roi_heads
        self.fine_features = fine_features
        self.pyramid = pyramid
        self.pyramid_names = pyramid_names

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into arguments."""
        detector = super().from_config(cfg)
        shapes = detector["backbone"].output_shape()
        top = cfg.MODEL.SIAMESE_DETR.IN_FEATURES[-1]
        names = {name: f"p{shape.stride.bit_length() - 1}" for name, shape in shapes.items()}
        # A level that no head reads would have parameters without gradient.
        fine = [
            name
            for name, shape in shapes.items()
            if shape.stride < shapes[top].stride and names[name] in cfg.MODEL.ROI_HEADS.IN_FEATURES
        ]
        fine.sort(key=lambda name: shapes[name].stride)
        width = cfg.MODEL.FPN.OUT_CHANNELS
        channels = [shapes[name].channels for name in (*fine, top)]
        channels[-1] += cfg.MODEL.SIAMESE_DETR.HIDDEN_DIM
        levels = {names[n]: ShapeSpec(channels=width, stride=shapes[n].stride) for n in (*fine, top)}
        return {
            **detector,
            "roi_heads": build_roi_heads(cfg, levels),
            "fine_features": tuple(fine),
            "pyramid": FeaturePyramidNetwork(channels, width),
            "pyramid_names": tuple(levels),
        }

    def training_losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the losses of the detector and of the ROI heads on its boxes."""
        predictions, features, memory = self.run(batched_inputs)
        instances = [sample["instances"].to(self.device) for sample in batched_inputs]
        losses = self.losses(predictions, self.targets(instances))
        proposals = self.detections(predictions, [i.image_size for i in instances])
        for item in proposals:
            item.proposal_boxes = Boxes(item.pred_boxes.tensor)
        # the ROI heads need the sizes but no pixels
        batch = ImageList(torch.zeros(len(instances), 0, device=self.device), features.sizes)
        _, roi_losses = self.roi_heads(batch, self.pyramid_maps(features, memory), proposals, instances)
        return {**losses, **roi_losses}

    @torch.no_grad()
    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect, segment and rank objects in images of one size."""
        found = self.roi_heads.forward_with_given_boxes(*self.detect(batched_inputs))
        return at_original_size(found, batched_inputs)

    @torch.no_grad()
    def detect(self, batched_inputs: Sequence[dict[str, Any]]) -> tuple[dict[str, Tensor], list[Instances]]:
        """Return the arguments of ``roi_heads.forward_with_given_boxes`` for images of one size.

        They are the features (B, C, H, W) by name and per image ``pred_boxes``, ``scores`` and
        ``pred_classes`` in pixels of the network's input.
        """
        predictions, features, memory = self.run(batched_inputs)
        found = self.detections(predictions, features.sizes)
        for item in found:
            item.pred_boxes.clip(item.image_size)
        found = [item[item.pred_boxes.nonempty()] for item in found]
        return self.pyramid_maps(features, memory), found

    def infer_flat(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        """Return the predictions for images of one size as flat tensors, in a form for export.

        Args:
            images: (B, 3, H, W) float32 in 0..255, without padding.
            sizes: (B, 2) int64, each (H, W).

        Returns:
            See :func:`~sor_ppa.ranking.flat.flat_predictions`.
        """
        features = self.extract_same_size(images)
        predictions, memory = self.run_transformer(features)
        best, kept = self.select(predictions, sizes)
        boxes, full = clip_in_images(best.boxes, sizes)
        found = flat_detections(kept & full, boxes, best.scores, best.labels)
        return self.roi_heads.rank_flat(self.pyramid_maps(features, memory), sizes, found)

    def pyramid_maps(self, features: Features, memory: Memory) -> dict[str, Tensor]:
        """Join the backbone maps and the encoder's memory to a pyramid."""
        level = len(self.in_features) - 1
        coarsest = memory.maps()[level].masked_fill(features.levels.paddings[level][:, None], 0.0)
        inputs = OrderedDict((name, features.backbone[name]) for name in self.fine_features)
        inputs["coarsest"] = torch.cat((features.backbone[self.in_features[-1]], coarsest), dim=1)
        return dict(zip(self.pyramid_names, self.pyramid(inputs).values(), strict=True))
