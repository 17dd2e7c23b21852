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

from ..layers.batching import same_size_groups
from .base import record_diagnostics
from .detector import DETRDetector, at_original_size
from .transformer import Encoded

__all__ = ["RankingDETR"]


@META_ARCH_REGISTRY.register()
class RankingDETR(DETRDetector):
    """Detect with a transformer, then segment and rank what it found.

    A feature pyramid joins the backbone maps with the encoder's memory, which is added to the coarsest
    one, so masks and ranks profit from what the transformer has learnt and lose none of the detail that
    its memory leaves out.

    Args:
        roi_heads: heads that ``MODEL.ROI_HEADS.NAME`` names, such as ``CenterROIHeads``.
        fine_features: backbone features below the coarsest, fine to coarse.
        pyramid: from those, and the coarsest feature beside the memory, to ``pyramid_names``.
        pyramid_names: of the levels, fine to coarse.
        **detector: of :class:`DETRDetector`.
    """

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
        detector = super().from_config(cfg)
        shapes = detector["backbone"].output_shape()
        top = cfg.MODEL.SIAMESE_DETR.IN_FEATURES[-1]
        names = {name: f"p{shape.stride.bit_length() - 1}" for name, shape in shapes.items()}
        wanted = list(cfg.MODEL.ROI_HEADS.IN_FEATURES)
        # Levels that no head reads would be parameters without gradient.
        fine = tuple(
            name
            for name in sorted(shapes, key=lambda name: shapes[name].stride)
            if shapes[name].stride < shapes[top].stride and names[name] in wanted
        )
        width = cfg.MODEL.FPN.OUT_CHANNELS
        channels = [shapes[name].channels for name in fine]
        channels.append(shapes[top].channels + cfg.MODEL.SIAMESE_DETR.HIDDEN_DIM)
        levels = {names[n]: ShapeSpec(channels=width, stride=shapes[n].stride) for n in (*fine, top)}
        return {
            **detector,
            "roi_heads": build_roi_heads(cfg, levels),
            "fine_features": fine,
            "pyramid": FeaturePyramidNetwork(channels, width),
            "pyramid_names": tuple(levels),
        }

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Weighted losses in training, ``[{"instances": Instances}]`` with masks and ranks in evaluation.

        In evaluation images of different size go through the network apart, so no answer depends
        on what else is in the batch.
        """
        if self.training:
            return self.training_losses(batched_inputs)
        sizes = [(int(s["image"].shape[-2]), int(s["image"].shape[-1])) for s in batched_inputs]
        results: list[dict[str, Any]] = [{} for _ in batched_inputs]
        for members in same_size_groups(sizes, self.device):
            chosen = [batched_inputs[i] for i in members]
            for index, result in zip(members, self.inference(chosen), strict=True):
                results[index] = result
        return results

    def training_losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Losses of the detector and of the ROI heads on its boxes."""
        images = [sample["image"] for sample in batched_inputs]
        encoded, levels = self.encode_pyramid(images)
        logits, boxes = self.predict(self.decode_encoded(encoded))
        instances = [sample["instances"].to(self.device) for sample in batched_inputs]
        losses, diagnostics = self.losses(logits, boxes, self.targets(instances))
        record_diagnostics(diagnostics)
        proposals = self.detections(
            logits[-1].detach(), boxes[-1].detach(), [i.image_size for i in instances]
        )
        for item in proposals:
            item.proposal_boxes = Boxes(item.pred_boxes.tensor)
        _, roi_losses = self.roi_heads(self.image_list(images), levels, proposals, instances)
        return {**losses, **roi_losses}

    @torch.no_grad()
    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Ranked objects of images of one size."""
        levels, found = self.detect(batched_inputs)
        found = self.roi_heads.forward_with_given_boxes(levels, found)
        return at_original_size(found, batched_inputs)

    @torch.no_grad()
    def detect(self, batched_inputs: Sequence[dict[str, Any]]) -> tuple[dict[str, Tensor], list[Instances]]:
        """What is there before anything is segmented or ranked.

        Args:
            batched_inputs: images ``image`` (3, H, W) of one size.

        Returns:
            Features by name, (B, C, H, W), and per image ``pred_boxes``, ``scores`` and ``pred_classes`` in
            pixels of the network's input: what ``roi_heads.forward_with_given_boxes`` takes.
        """
        images = [sample["image"] for sample in batched_inputs]
        encoded, levels = self.encode_pyramid(images)
        logits, boxes = self.predict(self.decode_encoded(encoded))
        sizes = [(int(i.shape[-2]), int(i.shape[-1])) for i in images]
        found = self.detections(logits[-1], boxes[-1], sizes)
        for item in found:
            item.pred_boxes.clip(item.image_size)
        return levels, [item[item.pred_boxes.nonempty()] for item in found]

    def encode_pyramid(self, images: Sequence[Tensor]) -> tuple[Encoded, dict[str, Tensor]]:
        """Encode a batch, and join memory and backbone maps to a pyramid."""
        batch = self.stack(images)
        maps = self.backbone(batch)
        sizes = [(int(i.shape[-2]), int(i.shape[-1])) for i in images]
        canvas = (int(batch.shape[-2]), int(batch.shape[-1]))
        features = self.feature_maps(self.project([maps[name] for name in self.in_features]), sizes, canvas)
        encoded = self.transformer.encode(features)
        # the vanilla and the conditional transformer read the coarsest map alone
        level = min(len(self.in_features), len(features.padding)) - 1
        memory = encoded.maps()[level].masked_fill(features.padding[level][:, None], 0.0)
        inputs = OrderedDict((name, maps[name]) for name in self.fine_features)
        inputs["coarsest"] = torch.cat((maps[self.in_features[-1]], memory), dim=1)
        return encoded, dict(zip(self.pyramid_names, self.pyramid(inputs).values(), strict=True))

    def image_list(self, images: Sequence[Tensor]) -> ImageList:
        """Sizes of a batch in detectron2's form; ROI heads read no pixels."""
        sizes = [(int(i.shape[-2]), int(i.shape[-1])) for i in images]
        return ImageList(torch.zeros(len(images), 0, device=self.device), sizes)
