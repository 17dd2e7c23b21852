"""The pixel decoder: deformable attention over three levels, then one finer level for the masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import fvcore.nn.weight_init as weight_init
import torch
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.deformable_attention import MultiScaleDeformableAttention
from ..layers.detr.layers import Encoder, EncoderLayer, init_xavier
from ..layers.detr.levels import Memory, build_levels, level_projections, project_levels

__all__ = ["PixelDecoder", "PixelFeatures"]


@dataclass(frozen=True)
class PixelFeatures:
    """What the pixel decoder gives to the transformer decoder."""

    #: ``(B, mask_dim, H / 4, W / 4)``: its product with a query's mask embedding is the query's mask.
    masks: Tensor
    #: maps ``(B, C, h, w)`` that queries read, coarsest first.
    levels: list[Tensor]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(h, w) of the maps."""
        return [(m.shape[-2], m.shape[-1]) for m in self.levels]


class PixelDecoder(nn.Module):
    """Multi-scale deformable attention pixel decoder (Mask2Former, section 3.3).

    All levels are ordered from coarse to fine, as in the published weights.

    Args:
        shapes: channels and strides of the backbone's maps.
        attended: names of the maps that attend to each other.
        finest: name of the map of stride 4.
        dim: width of the maps.
        mask_dim: width of the mask features.
        num_layers, num_heads, num_points, ffn_dim, dropout: of the deformable encoder.
        norm: of the convolutions at stride 4.
    """

    def __init__(
        self,
        shapes: Mapping[str, ShapeSpec],
        attended: Sequence[str],
        finest: str,
        *,
        dim: int = 256,
        mask_dim: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        ffn_dim: int = 1024,
        dropout: float = 0.0,
        norm: str = "GN",
    ) -> None:
        super().__init__()
        self.attended = sorted(attended, key=lambda name: -(shapes[name].stride or 0))
        self.finest, self.stride = finest, int(shapes[finest].stride or 0)
        levels = len(self.attended)
        channels = [shapes[name].channels or 0 for name in self.attended]
        self.input_proj = level_projections(channels, dim, levels, bias=True)
        self.level_embed = nn.Parameter(torch.empty(levels, dim))
        nn.init.normal_(self.level_embed)
        self.encoder = Encoder(
            EncoderLayer(
                MultiScaleDeformableAttention(dim, levels, num_heads, num_points), dim, ffn_dim, dropout
            )
            for _ in range(num_layers)
        )
        init_xavier(self.encoder)
        bias = norm == ""
        self.adapter_1 = Conv2d(shapes[finest].channels or 0, dim, 1, bias=bias, norm=get_norm(norm, dim))
        self.layer_1 = Conv2d(dim, dim, 3, padding=1, bias=bias, norm=get_norm(norm, dim), activation=F.relu)
        self.mask_features = Conv2d(dim, mask_dim, 1)
        for conv in (self.adapter_1, self.layer_1, self.mask_features):
            weight_init.c2_xavier_fill(conv)

    def forward(self, features: Mapping[str, Tensor]) -> PixelFeatures:
        """Return the mask features and the attended maps, in full precision also under autocast.

        Args:
            features: backbone maps ``(B, C_i, h_i, w_i)`` by name. Padded pixels count as pixels.
        """
        dtype = self.mask_features.weight.dtype
        with torch.autocast(features[self.finest].device.type, enabled=False):
            levels = self.attend([features[name].to(dtype) for name in self.attended])
            fine = self.adapter_1(features[self.finest].to(dtype))
            coarse = F.interpolate(levels[-1], fine.shape[-2:], mode="bilinear", align_corners=False)
            return PixelFeatures(self.mask_features(self.layer_1(fine + coarse)), levels)

    def attend(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Refine backbone maps ``(B, C_i, h_i, w_i)``, coarsest first, by deformable attention."""
        projected = project_levels(self.input_proj, maps)
        shapes = [(m.shape[-2], m.shape[-1]) for m in projected]
        geometry = build_levels([shapes[-1]], shapes[-1], shapes, projected[0].device, masked=False)
        geometry = geometry.repeated(projected[0].shape[0])
        positions = geometry.sine_positions(projected[0].shape[1], 0.0, self.level_embed)
        memory = Memory(geometry.flatten(projected), geometry, positions)
        return self.encoder(memory, geometry.on_every_level(geometry.centers())).maps()
