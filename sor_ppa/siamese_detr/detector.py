"""Conditional, vanilla and Deformable DETR for fine-tuning: one meta-architecture."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ..layers.batching import same_size_groups
from ..layers.detr.boxes import refine_boxes
from ..layers.detr.detections import TopDetections, in_pixels, select_detections
from ..layers.detr.levels import Memory
from ..layers.detr.losses import FocalCriterion, SetCriterion, SoftmaxCriterion, name_by_layer, weigh
from ..layers.detr.matching import BoxTargets, FocalCost, Predictions, box_matcher, softmax_cost
from ..layers.detr.mlp import MLP, prior_logit
from ..layers.nms import kept_by_nms
from .base import DETRBase, Features, base_arguments, diagnostics, record_diagnostics
from .transformer import DecoderOutput


@META_ARCH_REGISTRY.register()
class DETRDetector(DETRBase):
    """Detect objects with the transformer of ``MODEL.SIAMESE_DETR``.

    Args:
        num_classes: object classes.
        criterion: matching and losses.
        weights: weight of ``loss_ce``, ``loss_bbox`` and ``loss_giou``.
        auxiliary: losses on every decoder layer, not only the last.
        refine: each layer of the deformable decoder refines the boxes of the one before.
        top_k: detections per image.
        score_threshold: detections with a lower score are dropped.
        nms_threshold: IoU above which the less confident of two detections of a class is dropped; 1 keeps
            all, as DETR does.
        **base: of :class:`DETRBase`.
    """

    checkpoint_system = "conditional_detr"

    @configurable
    def __init__(
        self,
        *,
        num_classes: int,
        criterion: SetCriterion,
        weights: dict[str, float],
        auxiliary: bool = True,
        refine: bool = False,
        top_k: int = 100,
        score_threshold: float = 0.0,
        nms_threshold: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.criterion = criterion
        self.weights = weights
        self.auxiliary = auxiliary
        self.refine = refine
        self.top_k = top_k
        self.score_threshold = score_threshold
        self.nms_threshold = nms_threshold
        assert self.transformer.multi_level or not refine, "only the deformable transformer refines boxes"
        self.softmax = isinstance(criterion, SoftmaxCriterion)
        class_embed = nn.Linear(self.dim, num_classes + self.softmax)
        if not self.softmax:
            nn.init.constant_(class_embed.bias, prior_logit())
        bbox_embed = MLP(self.dim, self.dim, 4, 3)
        if self.transformer.has_reference:
            bbox_embed.zero_last()
        self.class_embed: nn.Module = class_embed
        self.bbox_embed: nn.Module = bbox_embed
        if self.transformer.multi_level:
            self._per_layer_heads(class_embed, bbox_embed)

    def _per_layer_heads(self, class_embed: nn.Module, bbox_embed: MLP) -> None:
        """Name heads by layer as Deformable DETR does; without refinement all are one module."""
        layers = self.transformer.num_decoder_layers
        nn.init.constant_(bbox_embed.last.bias[2:], -2.0)
        if self.refine:
            self.class_embed = nn.ModuleList(copy.deepcopy(class_embed) for _ in range(layers))
            heads = [copy.deepcopy(bbox_embed) for _ in range(layers)]
            for later in heads[1:]:
                nn.init.zeros_(later.last.bias)
            self.bbox_embed = nn.ModuleList(heads)
        else:
            self.class_embed = nn.ModuleList([class_embed] * layers)
            self.bbox_embed = nn.ModuleList([bbox_embed] * layers)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into arguments."""
        node = cfg.MODEL.SIAMESE_DETR
        costs = (node.COST_CLASS, node.COST_BOX, node.COST_GIOU)
        weights = (node.CLASS_WEIGHT, node.BOX_WEIGHT, node.GIOU_WEIGHT)
        criterion: SetCriterion = FocalCriterion(box_matcher(FocalCost(), costs))
        if node.CLASSIFICATION == "softmax":
            matcher = box_matcher(softmax_cost, costs)
            criterion = SoftmaxCriterion(matcher, node.NUM_CLASSES, node.EMPTY_WEIGHT)
        return {
            **base_arguments(cfg),
            "num_classes": node.NUM_CLASSES,
            "criterion": criterion,
            "weights": dict(zip(("loss_ce", "loss_bbox", "loss_giou"), weights, strict=True)),
            "auxiliary": node.AUX_LOSS,
            "refine": node.BOX_REFINE,
            "top_k": node.TOP_K,
            "score_threshold": node.SCORE_THRESH,
            "nms_threshold": node.NMS_THRESH,
        }

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Return weighted losses in training, ``[{"instances": Instances}]`` in evaluation.

        In evaluation images of different size pass through the network separately, so the result for an image
        never depends on the rest of its batch.

        Args:
            batched_inputs: detectron2 samples with ``image`` (3, H, W) and, in training, ``instances``.
        """
        if self.training:
            return self.training_losses(batched_inputs)
        sizes = [sample["image"].shape[-2:] for sample in batched_inputs]
        results: list[dict[str, Any]] = [{} for _ in batched_inputs]
        for members in same_size_groups(sizes, self.device):
            chosen = [batched_inputs[i] for i in members]
            for index, result in zip(members, self.inference(chosen), strict=True):
                results[index] = result
        return results

    def training_losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the weighted losses of a training batch."""
        predictions, _, _ = self.run(batched_inputs)
        return self.losses(predictions, self.targets([sample["instances"] for sample in batched_inputs]))

    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect objects in images of one size."""
        predictions, features, _ = self.run(batched_inputs)
        return at_original_size(self.detections(predictions, features.sizes), batched_inputs)

    def run(self, batched_inputs: Sequence[dict[str, Any]]) -> tuple[Predictions, Features, Memory]:
        """Return the predictions for a batch, its features and the encoder's memory."""
        features = self.extract([sample["image"] for sample in batched_inputs])
        predictions, memory = self.run_transformer(features)
        return predictions, features, memory

    def run_transformer(self, features: Features) -> tuple[Predictions, Memory]:
        """Return the predictions of every decoder layer and the encoder's memory."""
        memory = self.transformer.encode(features.maps, features.levels)
        return self.predict(self.decode_memory(memory)), memory

    def decode_memory(self, memory: Memory) -> DecoderOutput:
        """Decode the learned queries in an encoded batch."""
        queries = self.query_embed.weight[None].expand(memory.tokens.shape[0], -1, -1)
        heads = self.bbox_embed if self.refine else None
        assert heads is None or isinstance(heads, nn.ModuleList)
        return self.transformer.decode(queries, memory, heads)

    def predict(self, decoded: DecoderOutput) -> Predictions:
        """Return the predictions of every decoder layer, in float32 also under autocast."""
        with torch.autocast(decoded.hidden.device.type, enabled=False):
            hidden = decoded.hidden.float()
            if not isinstance(self.class_embed, nn.ModuleList):
                reference = None if decoded.references is None else decoded.references[-1]
                return Predictions(self.class_embed(hidden), refine_boxes(self.bbox_embed(hidden), reference))
            assert isinstance(self.bbox_embed, nn.ModuleList)
            assert decoded.references is not None
            logits = [head(h) for head, h in zip(self.class_embed, hidden, strict=True)]
            layers = zip(self.bbox_embed, hidden, decoded.references, strict=True)
            boxes = [refine_boxes(head(h), reference) for head, h, reference in layers]
            return Predictions(torch.stack(logits), torch.stack(boxes))

    def targets(self, instances: Sequence[Instances]) -> BoxTargets:
        """Return the objects of a training batch."""
        boxes = [item.gt_boxes.tensor.to(self.device).float() for item in instances]
        labels = [item.gt_classes.to(self.device) for item in instances]
        return BoxTargets.from_corners(boxes, labels, [item.image_size for item in instances])

    def losses(self, predictions: Predictions, targets: BoxTargets) -> dict[str, Tensor]:
        """Return weighted losses by published name; record diagnostics."""
        if not self.auxiliary:
            predictions = Predictions(predictions.logits[-1:], predictions.boxes[-1:])
        losses, matches = self.criterion(predictions, targets, targets.mean_count())
        record_diagnostics(diagnostics(predictions.logits, targets, matches))
        return name_by_layer(weigh(losses, self.weights))

    @torch.no_grad()
    def detections(self, predictions: Predictions, sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """Return the best detections of the last layer, most confident first, in pixels of each image.

        Args:
            predictions: of all layers.
            sizes: (height, width) of each image.
        """
        best, kept = self.select(predictions, torch.tensor(sizes, device=self.device))
        results = []
        for row, size in enumerate(sizes):
            fields = {"scores": best.scores[row], "pred_classes": best.labels[row]}
            found = Instances(size, pred_boxes=Boxes(best.boxes[row]), **fields)
            results.append(found[kept[row]])
        return results

    def select(self, predictions: Predictions, sizes: Tensor) -> tuple[TopDetections, Tensor]:
        """Return the best detections of the last layer, in pixels, and which of them count, ``(B, n)`` bool.

        Args:
            predictions: of all layers.
            sizes: ``(B, 2)`` int64 (height, width) of each image.
        """
        best = select_detections(predictions.logits[-1], predictions.boxes[-1], self.top_k, self.softmax)
        best = replace(best, boxes=in_pixels(best.boxes, sizes))
        kept = best.scores > self.score_threshold
        if self.nms_threshold < 1:
            scores = best.scores.masked_fill(~kept, -1.0)
            classes = predictions.logits.shape[-1]
            kept = kept_by_nms(best.boxes, scores, best.labels, classes, self.nms_threshold)
        return best, kept


def at_original_size(
    found: list[Instances], batched_inputs: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Scale detections to the ``height`` and ``width`` of each sample, in detectron2's output format."""
    results = []
    for item, sample in zip(found, batched_inputs, strict=True):
        size = (sample.get("height", item.image_size[0]), sample.get("width", item.image_size[1]))
        results.append({"instances": detector_postprocess(item, *size)})
    return results
