"""Salience-DETR as a detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.batching import ceil_divide, round_up, same_size_groups
from ..layers.detr.attention import GlobalAttention
from ..layers.detr.deformable_attention import MultiScaleDeformableAttention
from ..layers.detr.denoising import ContrastiveDenoising
from ..layers.detr.detections import TopDetections, in_pixels, select_detections
from ..layers.detr.layers import DecoderLayer
from ..layers.detr.levels import Levels, build_levels
from ..layers.detr.losses import SetCriterion, VarifocalCriterion
from ..layers.detr.matching import BoxTargets, FocalCost, box_matcher
from ..layers.tracing import first, opaque
from .criterion import SalienceCriterion, detection_losses
from .encoder import SalienceEncoder, SalienceEncoderLayer
from .neck import ChannelMapper, RepVGGPluXNetwork
from .preprocessing import resize_as_published
from .salience import SalienceFilter
from .transformer import BOX_EPS, SalienceDecoder, SalienceOutput, SalienceTransformer

#: Parameters of this part of a name learn at the rate of the backbone.
SLOW_PROJECTIONS = ("reference_points", "sampling_offsets")


def build_salience_transformer(node: CfgNode) -> SalienceTransformer:
    """Build the transformer that ``cfg.MODEL.SALIENCE_DETR`` describes."""
    dim, heads, levels = node.DIM, node.NUM_HEADS, node.NUM_LEVELS

    def attention() -> GlobalAttention:
        return GlobalAttention(dim, heads, node.DROPOUT)

    def deformable() -> MultiScaleDeformableAttention:
        return MultiScaleDeformableAttention(dim, levels, heads, node.NUM_POINTS)

    widths = (dim, node.FFN_DIM, node.DROPOUT)
    encoder_layers = [
        SalienceEncoderLayer(attention(), deformable(), *widths, num_attended=node.NUM_ATTENDED)
        for _ in range(node.ENC_LAYERS)
    ]
    decoder_layers = [DecoderLayer(attention(), deformable(), *widths) for _ in range(node.DEC_LAYERS)]
    return SalienceTransformer(
        salience=SalienceFilter(dim, levels, node.LEVEL_FILTER_RATIO, node.LAYER_FILTER_RATIO),
        encoder=SalienceEncoder(encoder_layers, dim, node.MAX_EMBEDDINGS),
        neck=RepVGGPluXNetwork(dim, levels),
        decoder=SalienceDecoder(decoder_layers, dim, node.NUM_CLASSES),
        dim=dim,
        num_levels=levels,
        num_classes=node.NUM_CLASSES,
        num_queries=node.NUM_QUERIES,
        nms_threshold=node.PROPOSAL_NMS,
    )


_SIDE_OF_TRACER = 512  # pixels that the tracer of an export may assume; graphs take smaller images, too


@META_ARCH_REGISTRY.register()
class SalienceDETR(nn.Module):
    """Salience-DETR (Hou et al., CVPR 2024).

    In training a batch is padded to one size, as published. In inference only images of the same
    size share a batch, so the result for an image never depends on the rest of its batch.

    Args:
        backbone: returns the maps ``in_features``.
        in_features: backbone maps, finest first.
        neck: projects the maps to one width.
        transformer: from the maps to the predictions.
        denoising: makes the denoising queries.
        criterion: matching and detection losses.
        weights: weight of ``loss_class``, ``loss_bbox`` and ``loss_giou``.
        salience_criterion: salience loss.
        label_ids: logit index of every class of the dataset; empty: the same index.
        pixel_mean: per channel.
        pixel_std: per channel.
        topk: detections per image.
        score_thresh: score that a detection must exceed.
        test_resize: (short side, longest side) of the resizing in inference; empty: none.
        size_divisibility: sides of a padded batch are multiples of this.
    """

    #: checkpoint system (see ``sor_ppa.checkpoint``) of published weight files
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
        criterion: SetCriterion,
        weights: Mapping[str, float],
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
        self.weights = dict(weights)
        self.salience_criterion = salience_criterion
        self.topk = topk
        self.score_thresh = score_thresh
        self.test_resize = tuple(test_resize)
        self.size_divisibility = size_divisibility
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)
        num_classes = denoising.num_classes
        ids = torch.tensor(list(label_ids) or range(num_classes), dtype=torch.int64)
        assert int(ids.max()) < num_classes, "label ids must be indices of the class logits"
        classes = torch.full((num_classes,), -1, dtype=torch.int64)
        classes[ids] = torch.arange(len(ids))
        self.register_buffer("label_ids", ids, persistent=False)
        self.register_buffer("label_classes", classes, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into arguments."""
        node = cfg.MODEL.SALIENCE_DETR
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        channels = [shapes[name].channels for name in node.IN_FEATURES]
        focal = (node.FOCAL_ALPHA, node.FOCAL_GAMMA)
        return {
            "backbone": backbone,
            "in_features": node.IN_FEATURES,
            "neck": ChannelMapper(channels, node.DIM, node.NUM_LEVELS),
            "transformer": build_salience_transformer(node),
            "denoising": ContrastiveDenoising(
                node.NUM_QUERIES,
                node.NUM_CLASSES,
                node.DIM,
                node.NUM_DENOISING,
                node.LABEL_NOISE,
                node.BOX_NOISE,
                BOX_EPS,
            ),
            "criterion": VarifocalCriterion(box_matcher(FocalCost(*focal, eps=1e-6), node.COST), *focal),
            "weights": dict(zip(("loss_class", "loss_bbox", "loss_giou"), node.LOSS_WEIGHT, strict=True)),
            "salience_criterion": SalienceCriterion(
                tuple(node.SALIENCE_LIMITS), node.SALIENCE_WEIGHT, *focal
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
        """The device of the parameters."""
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return losses in training, ``[{"instances": Instances}]`` otherwise.

        Args:
            batched_inputs: per image ``image`` (3, h, w) in ``INPUT.FORMAT``; optional ``height`` and
                ``width`` of the output; in training ``instances`` with ``gt_boxes`` and ``gt_classes``.
        """
        return self.losses(batched_inputs) if self.training else self.inference(batched_inputs)

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Return the published groups for the optimizer; every trainable parameter is in exactly one.

        The rate of the backbone and of the projections that place sampling points is multiplied by
        ``MODEL.SALIENCE_DETR.SLOW_FACTOR``. Parameters with "norm" or "bias" in their name have no weight
        decay. The scales of norms in a sequence (``neck.convs.*.1``, ``transformer.neck.*.1``) have no "norm"
        in their name and decay, as in the published code.
        """
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                slow = "backbone" in name or any(word in name for word in SLOW_PROJECTIONS)
                groups.setdefault((slow, "norm" in name or "bias" in name), []).append(parameter)
        solver, factor = cfg.SOLVER, cfg.MODEL.SALIENCE_DETR.SLOW_FACTOR
        return [
            {
                "params": parameters,
                "lr": solver.BASE_LR * (factor if slow else 1.0),
                "weight_decay": 0.0 if plain else solver.WEIGHT_DECAY,
            }
            for (slow, plain), parameters in groups.items()
        ]

    def batch(self, images: Sequence[Tensor]) -> ImageList:
        """Normalize and pad images ``(3, h, w)``."""
        normalized = [(image.to(self.device) - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalized, self.size_divisibility)

    def feature_maps(self, batch: ImageList) -> tuple[list[Tensor], Levels]:
        """Return maps ``(B, C, h, w)`` of one width, finest first, and their geometry."""
        maps = self._maps(batch.tensor)
        shapes: list[Any] = [m.shape[-2:] for m in maps]
        return maps, build_levels(batch.image_sizes, batch.tensor.shape[-2:], shapes, self.device)

    def same_size_maps(self, images: Tensor) -> tuple[list[Tensor], Levels]:
        """Return :meth:`feature_maps` of images ``(B, 3, h, w)`` of one size, not normalized; for export."""
        height, width = images.shape[-2:]
        below, right = (round_up(side, self.size_divisibility) - side for side in (height, width))
        padded = F.pad((images - self.pixel_mean) / self.pixel_std, (0, right, 0, below))
        finest = self.backbone.output_shape()[self.in_features[0]].stride
        maps = self._maps(padded)
        whole = padded.shape[-2], padded.shape[-1]
        strides = [finest * 2**level for level in range(len(maps))]
        # the sizes that the maps have, each a symbol of its own in an export
        shapes: list[Any] = [
            tuple(opaque(ceil_divide(side, stride), least=_SIDE_OF_TRACER // stride) for side in whole)
            for stride in strides
        ]
        maps = [first(first(m, h, 2), w, 3) for m, (h, w) in zip(maps, shapes, strict=True)]
        levels = build_levels([(height, width)], whole, shapes, self.device, masked=True)
        return maps, levels.repeated(images.shape[0])

    def _maps(self, images: Tensor) -> list[Tensor]:
        maps = self.backbone(images)
        return self.neck([maps[name] for name in self.in_features])

    def targets(self, batched_inputs: Sequence[dict[str, Any]]) -> BoxTargets:
        """Return the objects of a training batch.

        Raises:
            ValueError: a box without width or height; an unknown class.
        """
        labels, corners, sizes = [], [], []
        for item in batched_inputs:
            instances = item["instances"].to(self.device)
            boxes, classes = instances.gt_boxes.tensor, instances.gt_classes
            name = item.get("file_name", "training image")
            empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
            if bool(empty.any()):
                box = [round(v, 2) for v in boxes[empty][0].tolist()]
                raise ValueError(f"{name}: gt_boxes: expected x2 > x1 and y2 > y1, found {box}")
            if len(classes) and int(classes.max()) >= len(self.label_ids):
                expected = f"expected less than {len(self.label_ids)}"
                raise ValueError(f"{name}: gt_classes: {expected}, found {int(classes.max())}")
            corners.append(boxes)
            labels.append(self.label_ids[classes])
            sizes.append(instances.image_size)
        return BoxTargets.from_corners(corners, labels, sizes)

    def losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the weighted losses of a training batch."""
        return self.detect_and_score(batched_inputs)[2]

    def detect_and_score(
        self, batched_inputs: Sequence[dict[str, Any]]
    ) -> tuple[ImageList, SalienceOutput, dict[str, Tensor]]:
        """Return a padded training batch, its predictions and their weighted losses."""
        batch = self.batch([item["image"] for item in batched_inputs])
        targets = self.targets(batched_inputs)
        maps, levels = self.feature_maps(batch)
        noisy = self.denoising(targets)
        extra = None if noisy is None else (noisy.content, noisy.box_logits)
        output = self.transformer(maps, levels, extra, None if noisy is None else noisy.blocked)
        losses = detection_losses(self.criterion, self.weights, output, targets, noisy)
        sizes = batch.image_sizes, batch.tensor.shape[-2:]
        losses |= self.salience_criterion(output.selection.logits, levels, targets, *sizes)
        # Without objects the label embedding is unused; distributed training needs every parameter.
        unused = self.denoising.label_encoder.weight[0, 0] * 0.0
        losses["loss_class"] = losses["loss_class"] + unused
        return batch, output, losses

    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Detect objects in every image, independently of the others."""
        images = [item["image"].to(self.device) for item in batched_inputs]
        if self.test_resize:
            images = [resize_as_published(image, *self.test_resize) for image in images]
        results: list[dict[str, Any]] = [{} for _ in images]
        for members in same_size_groups([image.shape[-2:] for image in images], self.device):
            batch = self.batch([images[i] for i in members])
            output = self.transformer(*self.feature_maps(batch))
            outputs = self.results(output, batch, [batched_inputs[i] for i in members])
            for index, result in zip(members, outputs, strict=True):
                results[index] = result
        return results

    def instances(self, output: SalienceOutput, sizes: Sequence[tuple[int, int]]) -> list[Instances]:
        """Return boxes, scores and classes above the threshold for images of (height, width) ``sizes``."""
        found, kept = self.select(output, torch.tensor(sizes, device=self.device))
        results = []
        for row, size in enumerate(sizes):
            fields = {"scores": found.scores[row], "pred_classes": found.labels[row]}
            results.append(Instances(size, pred_boxes=Boxes(found.boxes[row]), **fields)[kept[row]])
        return results

    def select(self, output: SalienceOutput, sizes: Tensor) -> tuple[TopDetections, Tensor]:
        """Return the best detections, in pixels, with classes of the dataset; and which of them count.

        Args:
            output: of the transformer.
            sizes: ``(B, 2)`` int64 (height, width) of each image.

        Returns:
            The detections, and ``(B, n)`` bool.
        """
        found = select_detections(output.logits[-1], output.boxes[-1], self.topk)
        classes = self.label_classes[found.labels]
        found = TopDetections(found.scores, classes, in_pixels(found.boxes, sizes))
        return found, (classes >= 0) & (found.scores > self.score_thresh)

    def results(
        self, output: SalienceOutput, batch: ImageList, inputs: Sequence[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return ``{"instances": Instances}`` per image, at its output size."""
        sizes = []
        for item in inputs:
            height, width = item["image"].shape[-2:]
            sizes.append((int(item.get("height", height)), int(item.get("width", width))))
        results = self.instances(output, sizes)
        for instances in results:
            instances.pred_ranks = torch.full_like(instances.pred_classes, -1)
            instances.pred_rank_scores = instances.scores.float()
        return [{"instances": instances} for instances in results]

    @torch.no_grad()
    def salience_maps(self, image: Tensor) -> list[Tensor]:
        """Return the foreground probability of every level for an image ``(3, h, w)``, without padding."""
        was_training = self.training
        self.eval()
        try:
            if self.test_resize:
                image = resize_as_published(image.to(self.device), *self.test_resize)
            maps, levels = self.feature_maps(self.batch([image]))
            selection = self.transformer(maps, levels).selection
        finally:
            self.train(was_training)
        return [
            logits[0, 0, :rows, :columns].sigmoid()
            for logits, (rows, columns) in zip(selection.logits, levels.valid_sizes[0], strict=True)
        ]
