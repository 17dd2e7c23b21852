"""What the pre-training model and the detectors share: from images to encoded features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from detectron2.structures import ImageList
from detectron2.utils.events import EventStorage, get_event_storage
from torch import Tensor, nn

from ..layers.detr.attention import GlobalAttention
from ..layers.detr.deformable_attention import MultiScaleDeformableAttention
from ..layers.detr.layers import DecoderLayer, Encoder, EncoderLayer
from ..layers.detr.levels import Levels, build_levels, level_projections, project_levels
from ..layers.detr.matching import BoxTargets, Matches
from .transformer import (
    ConditionalDecoder,
    ConditionalDecoderLayer,
    DeformableTransformer,
    DETRTransformer,
    VanillaDecoder,
    VanillaDecoderLayer,
)


def build_detr_transformer(node: CfgNode) -> DETRTransformer:
    """Build the transformer that ``cfg.MODEL.SIAMESE_DETR.TRANSFORMER`` names."""
    dim, heads, dropout = node.HIDDEN_DIM, node.NUM_HEADS, node.DROPOUT
    widths = (dim, node.FFN_DIM, dropout)
    levels, count = node.NUM_FEATURE_LEVELS, node.DECODER_LAYERS

    def attention() -> GlobalAttention:
        return GlobalAttention(dim, heads, dropout)

    def deformable() -> MultiScaleDeformableAttention:
        return MultiScaleDeformableAttention(dim, levels, heads, node.NUM_POINTS)

    among_cells = deformable if node.TRANSFORMER == "deformable" else attention
    encoder = Encoder(EncoderLayer(among_cells(), *widths) for _ in range(node.ENCODER_LAYERS))
    if node.TRANSFORMER == "deformable":
        layers = [DecoderLayer(attention(), deformable(), *widths) for _ in range(count)]
        return DeformableTransformer(encoder, layers, dim, levels, node.NUM_QUERIES)
    if node.TRANSFORMER == "vanilla":
        vanilla = [VanillaDecoderLayer(attention(), attention(), *widths) for _ in range(count)]
        return DETRTransformer(encoder, VanillaDecoder(vanilla, dim))
    assert node.TRANSFORMER == "conditional"
    conditional = [ConditionalDecoderLayer(heads, *widths, first=i == 0) for i in range(count)]
    return DETRTransformer(encoder, ConditionalDecoder(conditional, dim))


def base_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Return the arguments of :class:`DETRBase` for a config."""
    node = cfg.MODEL.SIAMESE_DETR
    return {
        "backbone": build_backbone(cfg),
        "transformer": build_detr_transformer(node),
        "in_features": tuple(node.IN_FEATURES),
        "dim": node.HIDDEN_DIM,
        "num_queries": node.NUM_QUERIES,
        "num_levels": node.NUM_FEATURE_LEVELS,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
    }


def event_storage() -> EventStorage | None:
    """Return the storage of detectron2's training loop; None outside of one."""
    try:
        return get_event_storage()
    except AssertionError:
        return None


@torch.no_grad()
def diagnostics(logits: Tensor, targets: BoxTargets, matches: Matches) -> dict[str, Tensor]:
    """Return the published training diagnostics, each ``(L,)``.

    ``class_error`` is the percentage of matched queries of the wrong class, ``cardinality_error`` the mean
    absolute difference between the numbers of targets and of queries whose best class is not the last.
    """
    best = logits.argmax(-1)
    right = matches.gather(best) == matches.gather_targets(targets.labels)
    error = 100 - 100 * right.float().mean(1) if right.shape[1] else right.new_zeros(len(best)).float()
    counts = torch.tensor(targets.counts, dtype=torch.float32, device=logits.device)
    found = (best != logits.shape[-1] - 1).sum(-1).float()
    return {"class_error": error, "cardinality_error": (found - counts).abs().mean(1)}


def record_diagnostics(values: dict[str, Tensor]) -> None:
    """Write the last layer's entry of each ``(L,)`` diagnostic to the event storage, if one is open."""
    storage = event_storage()
    if storage is not None:
        last = torch.stack([v[-1].float() for v in values.values()]).tolist()
        storage.put_scalars(**dict(zip(values, last, strict=True)))


@dataclass(frozen=True)
class Features:
    """Feature maps of a padded batch."""

    #: per level ``(B, C, h, w)``: what the transformer takes.
    maps: list[Tensor]
    levels: Levels
    #: the backbone's maps by name.
    backbone: dict[str, Tensor]
    #: (height, width) of each image in pixels.
    sizes: list[tuple[int, int]]


class DETRBase(nn.Module):
    """Backbone, projection, transformer and query embedding.

    Args:
        backbone: a detectron2 backbone.
        transformer: from feature maps and queries to decoded queries.
        in_features: backbone features, fine to coarse; a single-level transformer takes the coarsest.
        dim: channels of the transformer.
        num_queries: object queries.
        num_levels: feature maps of the deformable transformer; those beyond ``in_features`` are
            strided convolutions of the coarsest.
        pixel_mean: per channel, of the input's value range.
        pixel_std: per channel.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    input_proj: nn.Conv2d | nn.ModuleList

    def __init__(
        self,
        *,
        backbone: Backbone,
        transformer: DETRTransformer,
        in_features: tuple[str, ...],
        dim: int,
        num_queries: int,
        num_levels: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        shapes = backbone.output_shape()
        self.backbone = backbone
        self.transformer = transformer
        self.in_features = in_features if transformer.multi_level else in_features[-1:]
        self.strides = [shapes[name].stride for name in self.in_features]
        self.channels = [shapes[name].channels for name in self.in_features]
        self.query_embed = nn.Embedding(num_queries, dim)
        self.dim = dim
        if transformer.multi_level:
            self.input_proj = level_projections(self.channels, dim, num_levels, bias=True)
        else:
            self.input_proj = nn.Conv2d(self.channels[-1], dim, kernel_size=1)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.pixel_mean.device

    def parameter_groups(self, cfg: CfgNode) -> list[dict[str, Any]]:
        """Return the published groups for the optimizer.

        All parameters, norms and biases included, have the same weight decay. The backbone's rate is
        multiplied by ``MODEL.SIAMESE_DETR.BACKBONE_LR_FACTOR``.
        """
        groups: dict[bool, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                groups.setdefault(name.startswith("backbone."), []).append(parameter)
        factor = cfg.MODEL.SIAMESE_DETR.BACKBONE_LR_FACTOR
        return [
            {"params": parameters, "lr": cfg.SOLVER.BASE_LR * (factor if in_backbone else 1.0)}
            for in_backbone, parameters in groups.items()
        ]

    def normalize(self, image: Tensor) -> Tensor:
        """Normalize ``(..., 3, H, W)`` in the input's value range; float32 on the model's device."""
        return (image.to(self.device, non_blocking=True).float() - self.pixel_mean) / self.pixel_std

    def extract(self, images: Sequence[Tensor]) -> Features:
        """Compute the feature maps of a padded batch of images (3, H, W), not normalized."""
        batch = ImageList.from_tensors([self.normalize(image) for image in images])
        backbone, maps = self._maps(batch.tensor)
        shapes: list[Any] = [m.shape[-2:] for m in maps]
        levels = build_levels(batch.image_sizes, batch.tensor.shape[-2:], shapes, self.device)
        return Features(maps, levels, backbone, batch.image_sizes)

    def extract_same_size(self, images: Tensor) -> Features:
        """Compute the feature maps of images (B, 3, H, W) without padding, not normalized; for export."""
        backbone, maps = self._maps(self.normalize(images))
        shapes: list[Any] = [m.shape[-2:] for m in maps]
        size = images.shape[-2], images.shape[-1]
        levels = build_levels([size], size, shapes, self.device, masked=False)
        return Features(maps, levels.repeated(images.shape[0]), backbone, [size])

    def _maps(self, images: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return the backbone's maps by name and the inputs of the transformer for normalized images."""
        backbone = self.backbone(images)
        maps = [backbone[name] for name in self.in_features]
        if isinstance(self.input_proj, nn.Conv2d):
            return backbone, [self.input_proj(maps[0])]
        return backbone, project_levels(self.input_proj, maps)
