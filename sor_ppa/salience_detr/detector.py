"""Salience-DETR as a detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from sor_ppa.layers.batching import same_size_groups
from sor_ppa.layers.boxes import xyxy_to_cxcywh
from sor_ppa.layers.detr_matcher import HungarianMatcher

from .criterion import DetectionCriterion, SalienceCriterion, Targets
from .decoder import SalienceDecoder, SalienceDecoderLayer
from .denoising import ContrastiveDenoising
from .encoder import SalienceEncoder, SalienceEncoderLayer
from .levels import Levels, build_levels
from .neck import ChannelMapper, RepVGGPluXNetwork
from .optimizer import parameter_groups
from .postprocess import select_detections
from .preprocessing import pad_batch, resize_image
from .salience import SalienceFilter
from .transformer import SalienceTransformer, TransformerOutput

__all__ = ["Batch", "SalienceDETR", "build_transformer"]


@dataclass(frozen=True)
class Batch:
    """A padded batch."""

    #: ``(B, 3, H, W)`` normalised.
    images: Tensor
    #: per image (height, width) before padding.
    sizes: list[tuple[int, int]]


def build_transformer(cfg: CfgNode) -> SalienceTransformer:
    """The transformer that ``cfg.MODEL.SALIENCE_DETR`` describes.

    Raises:
        ValueError: the number of layer ratios is not the number of encoder layers.
    """
    node = cfg.MODEL.SALIENCE_DETR
    if len(node.LAYER_FILTER_RATIO) != node.ENC_LAYERS:
        raise ValueError(
            f"MODEL.SALIENCE_DETR.LAYER_FILTER_RATIO: {len(node.LAYER_FILTER_RATIO)} values found, "
            f"expected {node.ENC_LAYERS} (MODEL.SALIENCE_DETR.ENC_LAYERS)"
        )
    shared: dict[str, Any] = {
        "dim": node.DIM,
        "ffn_dim": node.FFN_DIM,
        "num_heads": node.NUM_HEADS,
        "num_levels": node.NUM_LEVELS,
        "num_points": node.NUM_POINTS,
        "dropout": node.DROPOUT,
    }
    encoder_layers = [
        SalienceEncoderLayer(**shared, num_attended=node.NUM_ATTENDED) for _ in range(node.ENC_LAYERS)
    ]
    decoder_layers = [SalienceDecoderLayer(**shared) for _ in range(node.DEC_LAYERS)]
    return SalienceTransformer(
        salience=SalienceFilter(node.DIM, node.NUM_LEVELS, node.LEVEL_FILTER_RATIO, node.LAYER_FILTER_RATIO),
        encoder=SalienceEncoder(encoder_layers, node.DIM, node.MAX_EMBEDDINGS),
        neck=RepVGGPluXNetwork(node.DIM, node.NUM_LEVELS),
        decoder=SalienceDecoder(decoder_layers, node.DIM, node.NUM_CLASSES),
        dim=node.DIM,
        num_levels=node.NUM_LEVELS,
        num_classes=node.NUM_CLASSES,
        num_queries=node.NUM_QUERIES,
        nms_threshold=node.PROPOSAL_NMS,
    )


@META_ARCH_REGISTRY.register()
class SalienceDETR(nn.Module):
    """Salience-DETR (Hou et al., CVPR 2024).

    In training a batch is padded to one size, as published. In inference only images of the same
    size share a batch, so what an image shares its batch with never changes its answer.

    Args:
        backbone: gives the maps ``in_features``.
        in_features: backbone maps, finest first.
        neck: brings the maps to one width.
        transformer: everything between the maps and the predictions.
        denoising: makes the denoising queries.
        criterion: detection losses.
        salience_criterion: salience loss.
        label_ids: logit index of every class of the dataset; empty: the same index.
        pixel_mean: per channel.
        pixel_std: per channel.
        topk: detections per image.
        score_thresh: score that a detection must exceed.
        test_resize: (short side, longest side) of the resizing in inference; empty: none.
        size_divisibility: sides of a padded batch are multiples of this.
    """

    #: whose published parameter names weight files may have
    checkpoint_system = "salience_detr"
    pixel_mean: Tensor
    pixel_std: Tensor
    label_ids: Tensor
    label_classes: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        in_features: Sequence[str],
        neck: ChannelMapper,
        transformer: SalienceTransformer,
        denoising: ContrastiveDenoising,
        criterion: DetectionCriterion,
        salience_criterion: SalienceCriterion,
        label_ids: Sequence[int],
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        topk: int = 300,
        score_thresh: float = 0.0,
        test_resize: Sequence[int] = (),
        size_divisibility: int = 32,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.in_features = list(in_features)
        self.neck = neck
        self.transformer = transformer
        self.denoising = denoising
        self.criterion = criterion
        self.salience_criterion = salience_criterion
        self.topk = topk
        self.score_thresh = score_thresh
        self.test_resize = tuple(test_resize)
        self.size_divisibility = size_divisibility
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        num_classes = denoising.num_classes
        ids = torch.tensor(list(label_ids) or range(num_classes), dtype=torch.int64)
        if int(ids.max()) >= num_classes:
            raise ValueError(
                f"MODEL.SALIENCE_DETR.LABEL_IDS: {int(ids.max())} found, expected less than {num_classes} "
                "(MODEL.SALIENCE_DETR.NUM_CLASSES)"
            )
        classes = torch.full((num_classes,), -1, dtype=torch.int64)
        classes[ids] = torch.arange(len(ids))
        self.register_buffer("label_ids", ids, persistent=False)
        self.register_buffer("label_classes", classes, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        node = cfg.MODEL.SALIENCE_DETR
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        missing = [name for name in node.IN_FEATURES if name not in shapes]
        if missing:
            raise ValueError(
                f"MODEL.SALIENCE_DETR.IN_FEATURES: {missing[0]} found, expected some of {sorted(shapes)}"
            )
        channels = [shapes[name].channels for name in node.IN_FEATURES]
        return {
            "backbone": backbone,
            "in_features": node.IN_FEATURES,
            "neck": ChannelMapper(channels, node.DIM, node.NUM_LEVELS),
            "transformer": build_transformer(cfg),
            "denoising": ContrastiveDenoising(
                node.NUM_QUERIES,
                node.NUM_CLASSES,
                node.DIM,
                node.NUM_DENOISING,
                node.LABEL_NOISE,
                node.BOX_NOISE,
            ),
            "criterion": DetectionCriterion(
                matcher=HungarianMatcher(
                    class_weight=node.COST[0],
                    box_weight=node.COST[1],
                    giou_weight=node.COST[2],
                    alpha=node.FOCAL_ALPHA,
                    gamma=node.FOCAL_GAMMA,
                ),
                weights=dict(zip(("class", "bbox", "giou"), node.LOSS_WEIGHT, strict=True)),
                alpha=node.FOCAL_ALPHA,
                gamma=node.FOCAL_GAMMA,
            ),
            "salience_criterion": SalienceCriterion(
                tuple(node.SALIENCE_LIMITS), node.SALIENCE_WEIGHT, node.FOCAL_ALPHA, node.FOCAL_GAMMA
            ),
            "label_ids": node.LABEL_IDS,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "topk": node.TEST_TOPK,
            "score_thresh": node.TEST_SCORE_THRESH,
            "test_resize": node.TEST_RESIZE,
            "size_divisibility": node.SIZE_DIVISIBILITY,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Losses in training, ``[{"instances": Instances}]`` otherwise.

        Args:
            batched_inputs: per image ``image`` (3, h, w) in ``INPUT.FORMAT``; optional ``height`` and
                ``width`` of the output; in training ``instances`` with ``gt_boxes`` and ``gt_classes``.
        """
        if not self.training:
            return self.inference(batched_inputs)
        return self.losses(batched_inputs)

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """The published groups for the optimizer; see ``optimizer.parameter_groups``."""
        solver = cfg.SOLVER
        factor = cfg.MODEL.SALIENCE_DETR.SLOW_FACTOR
        return parameter_groups(self, solver.BASE_LR, solver.WEIGHT_DECAY, factor)

    def batch(self, images: Sequence[Tensor]) -> Batch:
        """Normalise and pad images ``(3, h, w)``."""
        normalised = [(image.to(self.device) - self.pixel_mean) / self.pixel_std for image in images]
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in normalised]
        padded = pad_batch(normalised, self.size_divisibility)
        return Batch(images=padded, sizes=sizes)

    def feature_maps(self, batch: Batch) -> tuple[list[Tensor], Levels]:
        """Maps ``(B, C, h, w)`` of one width, finest first, and their geometry."""
        maps = self.backbone(batch.images)
        maps = self.neck([maps[name] for name in self.in_features])
        height, width = batch.images.shape[-2:]
        levels = build_levels(batch.sizes, (height, width), [m.shape[-2:] for m in maps], self.device)
        return maps, levels

    def targets(self, batched_inputs: Sequence[dict[str, Any]]) -> Targets:
        """The objects of a training batch, normalised by the size of their image.

        Raises:
            ValueError: a box without width or height; a class that the model does not know.
        """
        labels, boxes = [], []
        for item in batched_inputs:
            instances = item["instances"].to(self.device)
            corners = instances.gt_boxes.tensor
            name = item.get("file_name", "training image")
            if bool((corners[:, 2:] <= corners[:, :2]).any()):
                row = int((corners[:, 2:] <= corners[:, :2]).any(1).nonzero()[0])
                box = [round(v, 2) for v in corners[row].tolist()]
                raise ValueError(f"{name}: gt_boxes: {box} found, expected x2 > x1 and y2 > y1")
            if len(instances) and int(instances.gt_classes.max()) >= len(self.label_ids):
                found = int(instances.gt_classes.max())
                raise ValueError(
                    f"{name}: gt_classes: {found} found, expected less than {len(self.label_ids)}"
                )
            height, width = instances.image_size
            boxes.append(xyxy_to_cxcywh(corners) / corners.new_tensor([width, height, width, height]))
            labels.append(self.label_ids[instances.gt_classes])
        return Targets(labels=labels, boxes=boxes)

    def losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Weighted losses of a training batch."""
        batch = self.batch([item["image"] for item in batched_inputs])
        targets = self.targets(batched_inputs)
        maps, levels = self.feature_maps(batch)
        output, losses = self.detect_and_score(maps, levels, batch, targets)
        del output
        return losses

    def detect_and_score(
        self, maps: list[Tensor], levels: Levels, batch: Batch, targets: Targets
    ) -> tuple[TransformerOutput, dict[str, Tensor]]:
        """Predictions of a training batch and their weighted losses."""
        noisy = self.denoising(targets.labels, targets.boxes)
        extra = None if noisy is None else (noisy.content, noisy.box_logits)
        output = self.transformer(maps, levels, extra, None if noisy is None else noisy.blocked)
        losses = self.criterion(output, targets, noisy)
        height, width = batch.images.shape[-2:]
        strides = [(height / h, width / w) for h, w in levels.shapes]
        losses.update(self.salience_criterion(output.selection.logits, levels, targets, batch.sizes, strides))
        # A batch without objects does not use the label embedding; distributed training wants every
        # parameter used in every step.
        unused = self.denoising.label_encoder.weight[0, 0] * 0.0
        losses["loss_class"] = losses["loss_class"] + unused
        return output, losses

    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detections of images, each independent of the others."""
        images = [item["image"].to(self.device) for item in batched_inputs]
        if self.test_resize:
            images = [resize_image(image, *self.test_resize) for image in images]
        sizes = [(int(image.shape[-2]), int(image.shape[-1])) for image in images]
        results: list[dict[str, Any]] = [{} for _ in images]
        for members in same_size_groups(sizes, self.device):
            batch = self.batch([images[i] for i in members])
            maps, levels = self.feature_maps(batch)
            output = self.transformer(maps, levels)
            outputs = self.results(output, levels, batch, [batched_inputs[i] for i in members])
            for index, result in zip(members, outputs, strict=True):
                results[index] = result
        return results

    def results(
        self, output: TransformerOutput, levels: Levels, batch: Batch, inputs: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """``{"instances": Instances}`` per image, at its output size."""
        found = select_detections(output.logits[-1], output.boxes[-1], self.topk)
        results = []
        for row, item in enumerate(inputs):
            original = item["image"].shape[-2:]
            height = int(item.get("height", original[0]))
            width = int(item.get("width", original[1]))
            classes = self.label_classes[found.labels[row]]
            keep = (classes >= 0) & (found.scores[row] > self.score_thresh)
            boxes = found.boxes[row] * found.boxes.new_tensor([width, height, width, height])
            instances = Instances((height, width))
            instances.pred_boxes = Boxes(boxes[keep])
            instances.scores = found.scores[row][keep]
            instances.pred_classes = classes[keep]
            instances.pred_ranks = torch.full_like(instances.pred_classes, -1)
            instances.pred_rank_scores = instances.scores.float()
            results.append({"instances": instances})
        return results

    @torch.no_grad()
    def salience_maps(self, image: Tensor) -> list[Tensor]:
        """Foreground probability of every level for one image ``(3, h, w)``, cut to the unpadded cells."""
        was_training = self.training
        self.eval()
        try:
            if self.test_resize:
                image = resize_image(image.to(self.device), *self.test_resize)
            batch = self.batch([image])
            maps, levels = self.feature_maps(batch)
            selection = self.transformer(maps, levels).selection
        finally:
            self.train(was_training)
        sizes = levels.valid_sizes[0]
        return [
            logits[0, 0, :rows, :columns].sigmoid()
            for logits, (rows, columns) in zip(selection.logits, sizes, strict=True)
        ]
