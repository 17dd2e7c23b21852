"""Mask2Former as a detectron2 meta-architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from detectron2.structures import BitMasks, ImageList, Instances, PolygonMasks
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import ConfigError
from ..layers.batching import ceil_divide, same_size_groups
from ..layers.detr.matching import Matches
from .criterion import MaskCriterion
from .decoder import MaskDecoderOutput, MaskedDecoder, QueryPredictions
from .instances import mask_instances
from .pixel_decoder import PixelDecoder, PixelFeatures
from .seeds import SeedQueries, center_closeness, guide_tokens, seed_loss
from .targets import MaskTargets

__all__ = ["Mask2Former", "MaskOutput"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)


@dataclass(frozen=True)
class MaskOutput:
    """What the network computes for a padded batch."""

    #: maps of the backbone by name.
    backbone: dict[str, Tensor]
    pixels: PixelFeatures
    decoded: MaskDecoderOutput

    @property
    def last(self) -> QueryPredictions:
        """The predictions of the last layer."""
        return self.decoded.predictions[-1]


@META_ARCH_REGISTRY.register()
class Mask2Former(nn.Module):
    """Mask2Former for instance segmentation (Cheng et al., CVPR 2022).

    In training a batch is padded to one size, and padded pixels count as pixels, as published. In inference
    only images of one padded size share a batch, so the result for an image never depends on the others.

    Args:
        backbone: returns the maps that the pixel decoder reads.
        pixel_decoder: from the backbone's maps to mask features.
        decoder: from those to predictions.
        criterion: matching and losses.
        deep_supervision: losses on every decoder layer.
        guides: additional queries of an object in training, started near its center.
        pixel_mean, pixel_std: per channel.
        size_divisibility: sides of a padded batch are multiples of this.
        count: instances per image.
        score_thresh: least score of an instance.
    """

    #: checkpoint system (see ``sor_ppa.checkpoint``) of published weight files
    checkpoint_system = "mask2former"
    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        pixel_decoder: PixelDecoder,
        decoder: MaskedDecoder,
        criterion: MaskCriterion,
        deep_supervision: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        size_divisibility: int = 32,
        count: int = 100,
        score_thresh: float = 0.0,
        guides: int = 0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pixel_decoder = pixel_decoder
        self.decoder = decoder
        self.criterion = criterion
        self.deep_supervision = deep_supervision
        self.size_divisibility = size_divisibility
        self.count = count
        self.score_thresh = score_thresh
        self.guides = guides
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Translate a config into arguments."""
        node, head = cfg.MODEL.MASK_FORMER, cfg.MODEL.SEM_SEG_HEAD
        backbone = build_backbone(cfg)
        shapes = {name: backbone.output_shape()[name] for name in head.IN_FEATURES}
        attended = head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES
        finest = [name for name in head.IN_FEATURES if shapes[name].stride == head.COMMON_STRIDE]
        if not finest:
            found = ", ".join(f"{name} of stride {shape.stride}" for name, shape in shapes.items())
            expected = f"a map of stride {head.COMMON_STRIDE}"
            raise ConfigError(f"MODEL.SEM_SEG_HEAD.IN_FEATURES: expected {expected}, found {found}")
        return {
            "backbone": backbone,
            "pixel_decoder": PixelDecoder(
                shapes,
                attended,
                finest[0],
                dim=head.CONVS_DIM,
                mask_dim=head.MASK_DIM,
                num_layers=head.TRANSFORMER_ENC_LAYERS,
                num_heads=head.DEFORMABLE_TRANSFORMER_ENCODER_N_HEADS,
                num_points=head.DEFORMABLE_TRANSFORMER_ENCODER_N_POINTS,
                ffn_dim=head.TRANSFORMER_ENC_FFN_DIM,
                dropout=node.DROPOUT,
                norm=head.NORM,
            ),
            "decoder": MaskedDecoder(
                dim=node.HIDDEN_DIM,
                mask_dim=head.MASK_DIM,
                num_classes=head.NUM_CLASSES,
                num_queries=node.NUM_OBJECT_QUERIES,
                num_layers=node.DEC_LAYERS - 1,
                num_heads=node.NHEADS,
                ffn_dim=node.DIM_FEEDFORWARD,
                num_levels=len(attended),
                seeds=SeedQueries(node.HIDDEN_DIM, node.NUM_OBJECT_QUERIES) if node.SEEDS else None,
            ),
            "criterion": MaskCriterion(
                head.NUM_CLASSES,
                (node.CLASS_WEIGHT, node.MASK_WEIGHT, node.DICE_WEIGHT),
                node.NO_OBJECT_WEIGHT,
                node.TRAIN_NUM_POINTS,
                node.OVERSAMPLE_RATIO,
                node.IMPORTANCE_SAMPLE_RATIO,
            ),
            "deep_supervision": node.DEEP_SUPERVISION,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "size_divisibility": node.SIZE_DIVISIBILITY,
            "count": cfg.TEST.DETECTIONS_PER_IMAGE,
            "score_thresh": node.TEST.SCORE_THRESH,
            "guides": node.GUIDES if node.SEEDS else 0,
        }

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.pixel_mean.device

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Return the published groups for the optimizer; every trainable parameter is in exactly one.

        The rate of the backbone is multiplied by ``SOLVER.BACKBONE_MULTIPLIER``. Norms, embeddings and the
        position tables of Swin have a weight decay of their own.
        """
        solver = cfg.SOLVER
        groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
        for path, module in self.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                decay = solver.WEIGHT_DECAY
                if name == "relative_position_bias_table":
                    decay = 0.0
                elif isinstance(module, _NORMS):
                    decay = solver.WEIGHT_DECAY_NORM
                elif isinstance(module, nn.Embedding):
                    decay = solver.WEIGHT_DECAY_EMBED
                groups.setdefault((path.startswith("backbone"), decay), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": solver.BASE_LR * (solver.BACKBONE_MULTIPLIER if slow else 1.0),
                "weight_decay": decay,
            }
            for (slow, decay), parameters in groups.items()
        ]

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Return losses in training, ``[{"instances": Instances}]`` otherwise.

        Args:
            batched_inputs: per image ``image`` (3, h, w) in ``INPUT.FORMAT``; optional ``height`` and
                ``width`` of the output; in training ``instances`` with ``gt_masks`` and ``gt_classes``.
        """
        return self.losses(batched_inputs) if self.training else self.inference(batched_inputs)

    def batch(self, images: Sequence[Tensor]) -> ImageList:
        """Normalize and pad images ``(3, h, w)``."""
        normalized = [(image.to(self.device) - self.pixel_mean) / self.pixel_std for image in images]
        return ImageList.from_tensors(normalized, self.size_divisibility)

    def run(self, images: Tensor, every_layer: bool) -> MaskOutput:
        """Compute predictions for normalized, padded images ``(B, 3, H, W)``."""
        maps = self.backbone(images)
        pixels = self.pixel_decoder(maps)
        return MaskOutput(maps, pixels, self.decoder(pixels, every_layer))

    def targets(self, batched_inputs: Sequence[dict[str, Any]], padded: tuple[int, int]) -> MaskTargets:
        """Return the objects of a training batch of the padded (height, width).

        Raises:
            ValueError: an unknown class.
        """
        masks, labels = [], []
        for item in batched_inputs:
            instances = item["instances"]
            classes, known = instances.gt_classes, self.criterion.num_classes
            if len(classes) and int(classes.max()) >= known:
                name = item.get("file_name", "training image")
                raise ValueError(
                    f"{name}: gt_classes: expected less than {known}, found {int(classes.max())}"
                )
            height, width = instances.image_size
            bits: Any = instances.gt_masks if len(instances) else PolygonMasks([])
            if isinstance(bits, PolygonMasks):
                bits = BitMasks.from_polygon_masks(bits, height, width)
            bits = getattr(bits, "tensor", bits).to(self.device, torch.bool)
            masks.append(F.pad(bits, (0, padded[1] - width, 0, padded[0] - height)))
            labels.append(classes.to(self.device))
        return MaskTargets(torch.cat(masks), torch.cat(labels), [len(part) for part in labels])

    def losses(self, batched_inputs: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Return the weighted losses of a training batch."""
        batch = self.batch([item["image"] for item in batched_inputs])
        return self.segment_and_score(batch, batched_inputs)[0]

    def segment_and_score(
        self, batch: ImageList, batched_inputs: Sequence[dict[str, Any]]
    ) -> tuple[dict[str, Tensor], MaskOutput, MaskTargets, Matches]:
        """Return the weighted losses, the output, the targets and the matches of the last layer."""
        height, width = batch.tensor.shape[-2:]
        targets = self.targets(batched_inputs, (height, width))
        maps = self.backbone(batch.tensor)
        pixels = self.pixel_decoder(maps)
        closeness = guides = None
        if self.decoder.seeds is not None:
            closeness = center_closeness(targets, pixels.shapes)
            guides = guide_tokens(targets, closeness, self.guides) if self.guides else None
        decoded = self.decoder(pixels, self.deep_supervision, guides)
        losses, matches = self.criterion(decoded.predictions, targets)
        if decoded.objectness is not None and closeness is not None:
            losses["loss_seed"] = seed_loss(decoded.objectness, targets, closeness)
        if decoded.guided:
            losses |= self.criterion.guided_losses(decoded.guided, targets, self.guides)
        return losses, MaskOutput(maps, pixels, decoded), targets, matches

    @torch.no_grad()
    def inference(self, batched_inputs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Segment the objects of every image, independently of the others."""
        results: list[dict[str, Any]] = [{} for _ in batched_inputs]
        step = self.size_divisibility
        padded = [
            (ceil_divide(h, step) * step, ceil_divide(w, step) * step)
            for h, w in (item["image"].shape[-2:] for item in batched_inputs)
        ]
        for members in same_size_groups(padded, self.device):
            inputs = [batched_inputs[i] for i in members]
            batch = self.batch([item["image"] for item in inputs])
            outputs = [
                (int(item.get("height", h)), int(item.get("width", w)))
                for item, (h, w) in zip(inputs, batch.image_sizes, strict=True)
            ]
            for index, found in zip(members, self.instances(batch, outputs), strict=True):
                results[index] = {"instances": found}
        return results

    def instances(self, batch: ImageList, outputs: Sequence[tuple[int, int]]) -> list[Instances]:
        """Return the instances of images of one padded size at their (height, width) ``outputs``."""
        prediction = self.run(batch.tensor, every_layer=False).last
        height, width = batch.tensor.shape[-2:]
        results = []
        for row, (size, output) in enumerate(zip(batch.image_sizes, outputs, strict=True)):
            found = mask_instances(
                prediction.logits[row],
                prediction.masks[row],
                (height, width),
                size,
                output,
                self.count,
                self.score_thresh,
            )
            found.pred_ranks = torch.full_like(found.pred_classes, -1)
            found.pred_rank_scores = found.scores.float()
            results.append(found)
        return results
