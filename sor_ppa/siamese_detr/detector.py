"""DETR detectors for fine-tuning: Conditional, vanilla and Deformable, one meta-architecture."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from detectron2.utils.comm import get_world_size
from torch import Tensor, nn
from torchvision.ops import batched_nms

from ..layers.boxes import cxcywh_to_xyxy, refine_boxes, xyxy_to_cxcywh
from ..layers.mlp import MLP
from .base import DETRBase, base_arguments, record_diagnostics
from .criterion import SetCriterion, Targets, name_by_layer
from .deformable import DeformableTransformer
from .transformer import Encoded, FeatureMaps, TransformerOutput

__all__ = ["DETRDetector", "at_original_size", "count_targets", "select_top"]

PRIOR = 0.01  # class probability at initialisation


def select_top(
    logits: Tensor, boxes: Tensor, top_k: int, classification: str = "focal"
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The most confident detections of each image.

    Args:
        logits: (B, Q, C).
        boxes: (B, Q, 4) normalised, centre format.
        top_k: detections to keep; fewer if there are fewer candidates.
        classification: "focal": the best of all (query, class) pairs; "softmax": the best class
            but the last of every query.

    Returns:
        scores (B, K), labels (B, K), boxes (B, K, 4) as normalised corners, and query indices (B, K).
    """
    if classification == "focal":
        scores, index = logits.sigmoid().flatten(1).topk(min(top_k, logits[0].numel()), dim=1)
        query, labels = index // logits.shape[2], index % logits.shape[2]
    else:
        best, labels = logits.softmax(-1)[..., :-1].max(-1)
        scores, query = best.topk(min(top_k, best.shape[1]), dim=1)
        labels = labels.gather(1, query)
    corners = cxcywh_to_xyxy(boxes).gather(1, query[..., None].expand(-1, -1, 4))
    return scores, labels, corners, query


def count_targets(counts: Sequence[int], device: torch.device) -> float:
    """Targets in the batch averaged over the workers, at least one."""
    total = torch.tensor(float(sum(counts)), device=device)
    workers = get_world_size()
    if workers > 1:
        torch.distributed.all_reduce(total)
    return max(float(total) / workers, 1.0)


@META_ARCH_REGISTRY.register()
class DETRDetector(DETRBase):
    """Detect objects with the transformer of ``MODEL.SIAMESE_DETR``.

    Args:
        num_classes: object classes.
        criterion: matching and losses.
        weights: weight of ``loss_ce``, ``loss_bbox`` and ``loss_giou``.
        auxiliary: losses on every decoder layer, not only the last.
        refine: each layer of the deformable decoder refines the boxes of the one before.
        top_k: detections an image.
        score_threshold: detections below it are left out.
        nms_threshold: overlap above which the less confident of two detections of a class is left
            out; 1 keeps all, as DETR does.
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
        deformable = isinstance(self.transformer, DeformableTransformer)
        if refine and not deformable:
            raise ValueError(
                "MODEL.SIAMESE_DETR.BOX_REFINE: found True, expected it with TRANSFORMER 'deformable' alone"
            )
        focal = criterion.classification == "focal"
        class_embed = nn.Linear(self.dim, num_classes if focal else num_classes + 1)
        if focal:
            nn.init.constant_(class_embed.bias, -math.log((1 - PRIOR) / PRIOR))
        bbox_embed = MLP(self.dim, self.dim, 4, 3)
        if self.transformer.has_reference:
            bbox_embed.zero_last()
        self.class_embed: nn.Module = class_embed
        self.bbox_embed: nn.Module = bbox_embed
        if deformable:
            self._per_layer_heads(class_embed, bbox_embed)

    def _per_layer_heads(self, class_embed: nn.Module, bbox_embed: MLP) -> None:
        """Upstream Deformable DETR names heads by layer; without refinement all are one module."""
        layers = self.transformer.num_decoder_layers
        nn.init.constant_(bbox_embed.last.bias[2:], -2.0)
        if self.refine:
            self.class_embed = nn.ModuleList(copy.deepcopy(class_embed) for _ in range(layers))
            self.bbox_embed = nn.ModuleList(copy.deepcopy(bbox_embed) for _ in range(layers))
            for later in self.bbox_embed[1:]:
                assert isinstance(later, MLP)
                nn.init.zeros_(later.last.bias)
        else:
            self.class_embed = nn.ModuleList([class_embed] * layers)
            self.bbox_embed = nn.ModuleList([bbox_embed] * layers)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.SIAMESE_DETR
        return {
            **base_arguments(cfg),
            "num_classes": node.NUM_CLASSES,
            "criterion": SetCriterion(
                num_classes=node.NUM_CLASSES,
                classification=node.CLASSIFICATION,
                cost_class=node.COST_CLASS,
                cost_box=node.COST_BOX,
                cost_giou=node.COST_GIOU,
                empty_weight=node.EMPTY_WEIGHT,
            ),
            "weights": {
                "loss_ce": node.CLASS_WEIGHT,
                "loss_bbox": node.BOX_WEIGHT,
                "loss_giou": node.GIOU_WEIGHT,
            },
            "auxiliary": node.AUX_LOSS,
            "refine": node.BOX_REFINE,
            "top_k": node.TOP_K,
            "score_threshold": node.SCORE_THRESH,
            "nms_threshold": node.NMS_THRESH,
        }

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Weighted losses in training, ``[{"instances": Instances}]`` in evaluation.

        Args:
            batched_inputs: detectron2 samples with ``image`` (3, H, W) and, in training, ``instances``.
        """
        images = [sample["image"] for sample in batched_inputs]
        features, _ = self.extract(images)
        decoded = self.decode_queries(features)
        logits, boxes = self.predict(decoded)
        if not self.training:
            sizes = [(int(i.shape[-2]), int(i.shape[-1])) for i in images]
            return at_original_size(self.detections(logits[-1], boxes[-1], sizes), batched_inputs)
        targets = self.targets([sample["instances"] for sample in batched_inputs])
        losses, diagnostics = self.losses(logits, boxes, targets)
        record_diagnostics(diagnostics)
        return losses

    def decode_queries(self, features: FeatureMaps) -> TransformerOutput:
        """Encode the features and decode the learnt queries in them."""
        return self.decode_encoded(self.transformer.encode(features))

    def decode_encoded(self, encoded: Encoded) -> TransformerOutput:
        """Decode the learnt queries in an encoded batch."""
        queries = self.query_embed.weight[None].expand(len(encoded.memory), -1, -1)
        heads = self.bbox_embed if self.refine else None
        assert heads is None or isinstance(heads, nn.ModuleList)
        return self.transformer.decode(queries, encoded, heads)

    def predict(self, decoded: TransformerOutput) -> tuple[Tensor, Tensor]:
        """Logits (L, B, Q, C) and boxes (L, B, Q, 4) of every decoder layer."""
        with torch.autocast(decoded.hidden.device.type, enabled=False):
            hidden = decoded.hidden.float()
            if not isinstance(self.class_embed, nn.ModuleList):
                reference = None if decoded.references is None else decoded.references[-1]
                return self.class_embed(hidden), refine_boxes(self.bbox_embed(hidden), reference)
            assert isinstance(self.bbox_embed, nn.ModuleList)
            assert decoded.references is not None
            logits = [head(h) for head, h in zip(self.class_embed, hidden, strict=True)]
            layers = zip(self.bbox_embed, hidden, decoded.references, strict=True)
            boxes = [refine_boxes(head(h), reference) for head, h, reference in layers]
            return torch.stack(logits), torch.stack(boxes)

    def targets(self, instances: Sequence[Instances]) -> Targets:
        """Ground truth with boxes normalised by each image's own size."""
        boxes, labels = [], []
        for item in instances:
            height, width = item.image_size
            scale = torch.tensor([width, height, width, height], dtype=torch.float32, device=self.device)
            boxes.append(xyxy_to_cxcywh(item.gt_boxes.tensor.to(self.device).float() / scale))
            labels.append(item.gt_classes.to(self.device))
        return Targets.pad(boxes, labels)

    def losses(
        self, logits: Tensor, boxes: Tensor, targets: Targets
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Weighted losses by published name, and diagnostics as (L,) tensors."""
        if not self.auxiliary:
            logits, boxes = logits[-1:], boxes[-1:]
        terms, matches = self.criterion(logits, boxes, targets, count_targets(targets.counts, boxes.device))
        weighted = {name: value * self.weights[name] for name, value in terms.items()}
        return name_by_layer(weighted), self.criterion.diagnostics(logits, targets, matches)

    @torch.no_grad()
    def detections(self, logits: Tensor, boxes: Tensor, sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """The best detections of each image, in pixels of the network's input.

        Args:
            logits: (B, Q, C).
            boxes: (B, Q, 4) normalised, centre format.
            sizes: (height, width) of each image.

        Returns:
            per image ``pred_boxes``, ``scores`` and ``pred_classes``, most confident first.
        """
        scores, labels, corners, _ = select_top(logits, boxes, self.top_k, self.criterion.classification)
        results = []
        for index, (height, width) in enumerate(sizes):
            found = Instances((height, width))
            found.pred_boxes = Boxes(corners[index] * corners.new_tensor([width, height, width, height]))
            found.scores = scores[index]
            found.pred_classes = labels[index]
            found = found[found.scores > self.score_threshold]
            if self.nms_threshold < 1:
                keep = batched_nms(
                    found.pred_boxes.tensor, found.scores, found.pred_classes, self.nms_threshold
                )
                found = found[keep]
            results.append(found)
        return results


def at_original_size(
    found: list[Instances], batched_inputs: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Detections scaled to the ``height`` and ``width`` of each sample, in detectron2's output format."""
    results = []
    for item, sample in zip(found, batched_inputs, strict=True):
        size = (sample.get("height", item.image_size[0]), sample.get("width", item.image_size[1]))
        results.append({"instances": detector_postprocess(item, *size)})
    return results
