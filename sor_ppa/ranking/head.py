"""The ranking head, and the seven published variants by name.

PPA (Fang et al., ICCV 2021) ranks the objects of an image from their pooled features. Each object is
described by features, mask and position. The objects of one image then attend to each other, and each gets
logits over K ranks. The seven published heads differ in

* ``position``: how the position of an object is encoded ("none", pooled coordinate "maps", maps and a
  convolution of them "maps_conv", "box" coordinates, or a "cells" embedding);
* ``interaction``: whether the objects of an image attend to each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec
from torch import Tensor, nn
from torch.nn import functional as F

from ..config.registries import SOR_HEAD_REGISTRY
from .decode import pad_by_image
from .position import box_positions, quantized_cells

__all__ = [
    "POSITIONS",
    "SOR_HEAD_REGISTRY",
    "VARIANTS",
    "ObjectInteraction",
    "RankingHead",
    "build_sor_head",
    "init_relu_layers",
    "interaction_encoder",
]

POSITIONS = ("none", "maps", "maps_conv", "box", "cells")
# channels that each choice adds to the pooled features
_EXTRA_CHANNELS = {"none": 0, "maps": 2, "maps_conv": 4, "box": 0, "cells": 0}


#: Position and interaction of each published head.
VARIANTS = {
    "SinglePredictor": ("none", False),
    "SinglePredictorWithPos": ("maps_conv", False),
    "SelfAttentionPredictor": ("none", True),
    "SelfAttentionWithPosCat": ("maps", True),
    "SelfAttentionWithPosConvCat": ("maps_conv", True),
    "SelfAttentionWithOtherPos": ("box", True),
    "SelfAttentionWithOtherPosQuant": ("cells", True),
}


def interaction_encoder(dim: int, num_heads: int, num_layers: int, dropout: float) -> nn.TransformerEncoder:
    """Build the encoder of objects: post-norm, ReLU, feed-forward four times as wide."""
    layer = nn.TransformerEncoderLayer(dim, num_heads, 4 * dim, dropout, batch_first=True)
    return nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)


def init_relu_layers(layers: Iterable[Any]) -> None:
    """Draw the weights of layers before a ReLU from Kaiming's normal distribution; set zero biases."""
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(layer.bias)


class ObjectInteraction(nn.Module):
    """Attention among the objects of an image; subclasses describe the objects.

    A subclass with ``interaction`` has an :func:`interaction_encoder` as ``transformer_encoder``.
    """

    interaction: bool
    sor: nn.Linear  # rank logits
    transformer_encoder: nn.TransformerEncoder

    def interact(self, objects: Tensor, counts: Sequence[int]) -> Tensor:
        """Apply attention among the objects (N, D) of each image, not across images."""
        present = [c for c in counts if c > 0]
        if not present:
            # distributed training needs a gradient for every parameter, also without objects
            unused = self.transformer_encoder(objects.new_zeros((1, 1, objects.shape[1])))
            return objects + unused.sum() * 0
        padded, valid = pad_by_image(objects, present)
        full = len(set(present)) == 1
        return self.transformer_encoder(padded, src_key_padding_mask=None if full else ~valid)[valid]

    def interact_flat(self, objects: Tensor, image_index: Tensor) -> Tensor:
        """Apply :meth:`interact` to objects (N, D) with the image (N,) of each, in a form for export."""
        others = image_index[:, None] != image_index
        return self.transformer_encoder(objects[None], mask=others, is_causal=False)[0]


class RankingHead(ObjectInteraction):
    """Compute rank logits of objects from pooled features, masks and positions.

    Args:
        in_channels: of the pooled features.
        resolution: side R of the pooled square.
        num_ranks: K.
        conv_dim, num_conv: of the 3x3 convolutions; the last has stride two.
        dense_dim, object_dim: widths of the two fully connected layers.
        position: one of :data:`POSITIONS`.
        interaction: attention between the objects of an image.
        model_dim, num_heads, num_layers, dropout: of the encoder (post-norm, ReLU, feed-forward
            four times as wide).
        cells: side of the grid for ``position="cells"``.
    """

    @configurable
    def __init__(
        self,
        *,
        in_channels: int,
        resolution: int,
        num_ranks: int = 5,
        conv_dim: int = 256,
        num_conv: int = 4,
        dense_dim: int = 1024,
        object_dim: int = 1024,
        position: str = "maps_conv",
        interaction: bool = True,
        model_dim: int = 1024,
        num_heads: int = 4,
        num_layers: int = 4,
        dropout: float = 0.1,
        cells: int = 4,
    ) -> None:
        super().__init__()
        width = object_dim + (4 if position == "box" else 0)
        assert position in POSITIONS
        assert not interaction or width == model_dim, "the encoder is as wide as an object's description"
        self.position, self.interaction, self.cells = position, interaction, cells

        channels = in_channels + 1 + _EXTRA_CHANNELS[position]
        self.convs = []
        for k in range(num_conv):
            stride = 2 if k + 1 == num_conv else 1
            conv = Conv2d(channels, conv_dim, 3, stride=stride, padding=1, activation=F.relu)
            self.add_module(f"sor_fcn{k + 1}", conv)
            self.convs.append(conv)
            channels = conv_dim
        side = (resolution + 1) // 2
        self.sor_fc1 = nn.Linear(conv_dim * side**2, dense_dim)
        self.sor_fc2 = nn.Linear(dense_dim, object_dim)
        self.sor = nn.Linear(width, num_ranks)
        relu_layers: list[Any] = [*self.convs, self.sor_fc1, self.sor_fc2]
        if position == "maps_conv":
            self.pos_conv = Conv2d(2, 2, 3, padding=1, activation=F.relu)
            relu_layers.append(self.pos_conv)
        elif position == "cells":
            self.pos_embedding = nn.Parameter(torch.rand(cells**2, object_dim))
        if interaction:
            self.transformer_encoder = interaction_encoder(model_dim, num_heads, num_layers, dropout)
            relu_layers += [m for m in self.transformer_encoder.modules() if type(m) is nn.Linear]
        init_relu_layers(relu_layers)
        nn.init.normal_(self.sor.weight, std=0.01)
        nn.init.zeros_(self.sor.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        options, encoder = cfg.MODEL.SOR, cfg.MODEL.SOR.TRANSFORMER
        return {
            "in_channels": input_shape.channels,
            "resolution": input_shape.width,
            "num_ranks": options.NUM_RANKS,
            "conv_dim": options.CONV_DIM,
            "num_conv": options.NUM_CONV,
            "dense_dim": options.DENSE_DIM,
            "object_dim": options.OBJ_DIM,
            "model_dim": encoder.D_MODEL,
            "num_heads": encoder.N_HEAD,
            "num_layers": encoder.LAYERS,
            "dropout": encoder.DROPOUT,
            "cells": options.QUANT_NUM,
        }

    @property
    def needs_maps(self) -> bool:
        """Whether :meth:`forward` needs pooled position maps."""
        return self.position in ("maps", "maps_conv")

    def describe(
        self, features: Tensor, masks: Tensor, maps: Tensor | None, boxes: Tensor, sizes: Tensor
    ) -> Tensor:
        """Return a vector for each object, (N, width of the encoder). Arguments as in :meth:`forward`."""
        parts = [features, F.max_pool2d(masks.to(features.dtype), 2)]
        if self.needs_maps:
            assert maps is not None, f"position {self.position!r} needs maps"
            maps = maps.to(features.dtype)
            parts.append(maps)
            if self.position == "maps_conv":
                parts.append(self.pos_conv(maps))
        x = torch.cat(parts, dim=1)
        for conv in self.convs:
            x = conv(x)
        x = F.relu(self.sor_fc1(x.flatten(1)))
        x = F.relu(self.sor_fc2(x))
        if self.position == "box":
            x = torch.cat([x, box_positions(boxes, sizes).to(x.dtype)], dim=1)
        elif self.position == "cells":
            x = x + self.pos_embedding[quantized_cells(boxes, sizes, self.cells)].to(x.dtype)
        return x

    def forward(
        self,
        features: Tensor,
        masks: Tensor,
        *,
        maps: Tensor | None = None,
        boxes: Tensor,
        sizes: Tensor,
        counts: Sequence[int],
    ) -> Tensor:
        """Return the rank logits of all objects of a batch.

        Args:
            features: (N, C, R, R) pooled features, N the sum of ``counts``.
            masks: (N, 1, 2R, 2R) mask probabilities.
            maps: (N, 2, R, R) pooled position maps (y, x), where :attr:`needs_maps`.
            boxes: (N, 4) XYXY in pixels of the network input.
            sizes: (N, 2) (height, width) that positions are divided by.
            counts: objects of each image.

        Returns:
            (N, K) logits.
        """
        exact: AbstractContextManager = nullcontext()
        if not self.training:  # float32: rounding would reorder objects with similar logits
            features, masks = (x.to(self.sor.weight.dtype) for x in (features, masks))
            exact = torch.autocast(features.device.type, enabled=False)
        with exact:
            x = self.describe(features, masks, maps, boxes, sizes)
            if self.interaction:
                x = self.interact(x, counts)
            return self.sor(x)


def _register_head(name: str, position: str, interaction: bool) -> None:
    """Register a published variant of the head."""

    def build(cfg: CfgNode, input_shape: ShapeSpec) -> RankingHead:
        return RankingHead(cfg, input_shape, position=position, interaction=interaction)

    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"Ranking head with position {position!r}, {'with' if interaction else 'no'} attention."
    SOR_HEAD_REGISTRY.register(build)


for _name, (_position, _interaction) in VARIANTS.items():
    _register_head(_name, _position, _interaction)


def build_sor_head(cfg: CfgNode, input_shape: ShapeSpec) -> RankingHead:
    """Build the ranking head that ``MODEL.SOR.NAME`` names.

    Args:
        cfg: with the keys of :func:`sor_ppa.add_sor_config`.
        input_shape: channels and side of the pooled features.
    """
    return SOR_HEAD_REGISTRY.get(cfg.MODEL.SOR.NAME)(cfg, input_shape)
