"""What the pre-training model and the detectors share: images to encoded features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.position_embedding import sine_position_map
from .conditional import ConditionalTransformer
from .deformable import DeformableTransformer
from .solver import build_optimizer
from .transformer import FeatureMaps, VanillaTransformer

__all__ = [
    "DETRBase",
    "Transformer",
    "base_arguments",
    "build_transformer",
    "current_iteration",
    "record_diagnostics",
]

Transformer = VanillaTransformer | ConditionalTransformer | DeformableTransformer
Size = tuple[int, int]


def build_transformer(cfg: CfgNode) -> Transformer:
    """Build the transformer that ``MODEL.SIAMESE_DETR.TRANSFORMER`` names.

    Raises:
        ValueError: the name is unknown.
    """
    node = cfg.MODEL.SIAMESE_DETR
    args: dict[str, Any] = {
        "dim": node.HIDDEN_DIM,
        "num_heads": node.NUM_HEADS,
        "encoder_layers": node.ENCODER_LAYERS,
        "decoder_layers": node.DECODER_LAYERS,
        "ffn_dim": node.FFN_DIM,
        "dropout": node.DROPOUT,
    }
    if node.TRANSFORMER == "vanilla":
        return VanillaTransformer(**args)
    if node.TRANSFORMER == "conditional":
        return ConditionalTransformer(**args)
    if node.TRANSFORMER == "deformable":
        return DeformableTransformer(
            **args,
            num_levels=node.NUM_FEATURE_LEVELS,
            num_points=node.NUM_POINTS,
            num_queries=node.NUM_QUERIES,
        )
    raise ValueError(
        f"MODEL.SIAMESE_DETR.TRANSFORMER: found {node.TRANSFORMER!r}, "
        "expected 'vanilla', 'conditional' or 'deformable'"
    )


def base_arguments(cfg: CfgNode) -> dict[str, Any]:
    """Arguments of :class:`DETRBase` from a config."""
    node = cfg.MODEL.SIAMESE_DETR
    return {
        "backbone": build_backbone(cfg),
        "transformer": build_transformer(cfg),
        "in_features": tuple(node.IN_FEATURES),
        "dim": node.HIDDEN_DIM,
        "num_queries": node.NUM_QUERIES,
        "num_levels": node.NUM_FEATURE_LEVELS,
        "pixel_mean": cfg.MODEL.PIXEL_MEAN,
        "pixel_std": cfg.MODEL.PIXEL_STD,
    }


def current_iteration() -> int | None:
    """Iteration of detectron2's training loop; None outside of one."""
    try:
        return int(get_event_storage().iter)
    except AssertionError:
        return None


def record_diagnostics(diagnostics: dict[str, Tensor]) -> None:
    """Write the last layer's entry of each (L,) diagnostic to detectron2's event storage, if one is open."""
    try:
        storage = get_event_storage()
    except AssertionError:
        return
    values = torch.stack([v[-1].float() for v in diagnostics.values()]).tolist()
    storage.put_scalars(**dict(zip(diagnostics, values, strict=True)))


class DETRBase(nn.Module):
    """Backbone, projection, transformer and query embedding.

    Args:
        backbone: a detectron2 backbone.
        transformer: one of this wing's transformers.
        in_features: backbone features, fine to coarse.
        dim: channels of the transformer.
        num_queries: object queries.
        num_levels: feature maps of the deformable transformer; those beyond ``in_features`` are
            strided convolutions of the coarsest. Ignored by the others, which take one map.
        pixel_mean: per channel, of the input's value range.
        pixel_std: per channel.
    """

    pixel_mean: Tensor
    pixel_std: Tensor
    input_proj: nn.Conv2d | nn.ModuleList

    build_optimizer = staticmethod(build_optimizer)

    def __init__(
        self,
        *,
        backbone: Backbone,
        transformer: Transformer,
        in_features: tuple[str, ...],
        dim: int,
        num_queries: int,
        num_levels: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        shapes = backbone.output_shape()
        missing = [name for name in in_features if name not in shapes]
        if missing:
            raise ValueError(
                f"MODEL.SIAMESE_DETR.IN_FEATURES: found {missing[0]!r}, expected some of {sorted(shapes)}"
            )
        self.backbone = backbone
        self.transformer = transformer
        self.in_features = in_features
        self.strides = [shapes[name].stride for name in in_features]
        self.channels = [shapes[name].channels for name in in_features]
        self.query_embed = nn.Embedding(num_queries, dim)
        self.dim = dim
        if isinstance(transformer, DeformableTransformer):
            self.input_proj = self._projections(num_levels)
        else:
            self.input_proj = nn.Conv2d(self.channels[-1], dim, kernel_size=1)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), persistent=False)

    def _projections(self, num_levels: int) -> nn.ModuleList:
        if num_levels < len(self.channels):
            raise ValueError(
                f"MODEL.SIAMESE_DETR.NUM_FEATURE_LEVELS: found {num_levels}, "
                f"expected at least {len(self.channels)} (one for each of IN_FEATURES)"
            )
        convs = [nn.Conv2d(c, self.dim, kernel_size=1) for c in self.channels]
        for level in range(len(self.channels), num_levels):
            channels = self.channels[-1] if level == len(self.channels) else self.dim
            convs.append(nn.Conv2d(channels, self.dim, kernel_size=3, stride=2, padding=1))
        for conv in convs:
            nn.init.xavier_uniform_(conv.weight)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)
        return nn.ModuleList(nn.Sequential(conv, nn.GroupNorm(32, self.dim)) for conv in convs)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def normalize(self, image: Tensor) -> Tensor:
        """(..., 3, H, W) in the input's value range to normalised float32 on the model's device."""
        return (image.to(self.device, non_blocking=True).float() - self.pixel_mean) / self.pixel_std

    def stack(self, images: Sequence[Tensor]) -> Tensor:
        """Normalise (3, H, W) images and pad them right and below with zeros to one (B, 3, H, W)."""
        sizes = [tuple(i.shape[-2:]) for i in images]
        if len(set(sizes)) == 1:
            return self.normalize(torch.stack(list(images)))
        height, width = max(s[0] for s in sizes), max(s[1] for s in sizes)
        batch = torch.zeros(len(images), 3, height, width, device=self.device)
        for slot, image in zip(batch, images, strict=True):
            slot[:, : image.shape[1], : image.shape[2]] = self.normalize(image)
        return batch

    def backbone_maps(self, batch: Tensor) -> list[Tensor]:
        """Backbone features of a normalised batch, one (B, C, h, w) a level."""
        features = self.backbone(batch)
        return [features[name] for name in self.in_features]

    def project(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Backbone maps to transformer maps of ``dim`` channels."""
        if isinstance(self.input_proj, nn.Conv2d):
            return [self.input_proj(maps[-1])]
        projected = [proj(m) for proj, m in zip(self.input_proj[: len(maps)], maps, strict=True)]
        coarse = maps[-1]
        for proj in self.input_proj[len(maps) :]:
            coarse = proj(coarse)
            projected.append(coarse)
        return projected

    def feature_maps(self, sources: list[Tensor], sizes: Sequence[Size], canvas: Size) -> FeatureMaps:
        """Attach padding masks and positions.

        Args:
            sources: transformer maps of a padded batch.
            sizes: (height, width) of each image in pixels.
            canvas: (height, width) they are padded to.
        """
        padding = [padding_mask(sizes, canvas, _hw(s), s.device) for s in sources]
        positions = [sine_position_map(p, self.dim // 2, offset=0.0) for p in padding]
        return FeatureMaps(sources, padding, positions, any(tuple(s) != canvas for s in sizes))

    def extract(self, images: Sequence[Tensor]) -> tuple[FeatureMaps, list[Tensor]]:
        """Projected features and backbone maps of a batch of images.

        In training the batch is padded first, as published. In evaluation images of different
        size pass the backbone apart, so no answer depends on what else is in the batch.

        Args:
            images: (3, H, W) tensors, not normalised.

        Returns:
            the features and, one a level, the (B, C, h, w) backbone maps (zero on padding).
        """
        sizes = [_hw(i) for i in images]
        if self.training or len(set(sizes)) == 1:
            batch = self.stack(images)
            maps = self.backbone_maps(batch)
            return self.feature_maps(self.project(maps), sizes, _hw(batch)), maps
        groups: dict[Size, list[int]] = {}
        for index, size in enumerate(sizes):
            groups.setdefault(size, []).append(index)
        order, projected, plain = [], [], []
        for members in groups.values():
            maps = self.backbone_maps(self.stack([images[i] for i in members]))
            order += members
            plain.append(maps)
            projected.append(self.project(maps))
        sources, paddings = zip(
            *(_join_groups(level, order) for level in zip(*projected, strict=True)), strict=True
        )
        positions = [sine_position_map(p, self.dim // 2, offset=0.0) for p in paddings]
        joined = [_join_groups(level, order)[0] for level in zip(*plain, strict=True)]
        return FeatureMaps(list(sources), list(paddings), positions), joined


def _hw(tensor: Tensor) -> Size:
    return int(tensor.shape[-2]), int(tensor.shape[-1])


def _join_groups(groups: Sequence[Tensor], order: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(n, C, h, w) maps of several sizes to one zero-padded (B, C, H, W) in image order, and its padding."""
    height, width = max(g.shape[2] for g in groups), max(g.shape[3] for g in groups)
    padded = [F.pad(g, (0, width - g.shape[3], 0, height - g.shape[2])) for g in groups]
    masks = []
    for group in groups:
        mask = torch.ones(len(group), height, width, dtype=torch.bool, device=group.device)
        mask[:, : group.shape[2], : group.shape[3]] = False
        masks.append(mask)
    back = torch.tensor(order, device=groups[0].device).argsort()
    return torch.cat(padded)[back], torch.cat(masks)[back]


def padding_mask(sizes: Sequence[Size], canvas: Size, shape: Size, device: torch.device) -> Tensor:
    """Which cells of a feature map lie on padding, by nearest sampling of the pixel mask.

    Args:
        sizes: (height, width) of each image in pixels.
        canvas: (height, width) of the padded batch.
        shape: (height, width) of the feature map.
        device: of the result.

    Returns:
        (B, h, w) bool, true on padding.
    """
    axes = []
    for axis in (0, 1):
        limit = torch.tensor([s[axis] for s in sizes])[:, None]
        beyond = (torch.arange(canvas[axis])[None] >= limit).float()
        axes.append(F.interpolate(beyond[:, None], size=shape[axis])[:, 0] > 0.5)
    rows, columns = axes
    return (rows[:, :, None] | columns[:, None, :]).to(device, non_blocking=True)
