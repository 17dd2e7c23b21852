"""The transformers of DETR and Deformable DETR, and what all transformers here have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.detr.boxes import refine_boxes
from ..layers.detr.layers import DecoderLayer, Encoder, init_xavier
from ..layers.detr.levels import Levels, Memory

__all__ = [
    "DETRTransformer",
    "DecoderOutput",
    "DeformableTransformer",
    "VanillaDecoder",
    "VanillaDecoderLayer",
]


@dataclass(frozen=True)
class DecoderOutput:
    """Output of L decoder layers."""

    #: ``(L, B, Q, C)``.
    hidden: Tensor
    #: per layer the points ``(B, Q, 2)`` or boxes ``(B, Q, 4)`` in [0, 1] that its boxes are relative to;
    #: None for a transformer without references.
    references: list[Tensor] | None = None


class VanillaDecoderLayer(DecoderLayer):
    """DETR's decoder layer under its parameter names."""

    names = ("multihead_attn", "norm1", "norm2")


class VanillaDecoder(nn.Module):
    """DETR's decoder; one shared norm for the outputs of all layers.

    Args:
        layers: in order.
        dim: channels.
    """

    has_reference = False

    def __init__(self, layers: Sequence[VanillaDecoderLayer], dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, memory: Memory) -> DecoderOutput:
        """Decode positional queries ``(B, Q, C)`` whose content starts at zero."""
        x, outputs = torch.zeros_like(queries), []
        for layer in self.layers:
            x = layer(x, queries, memory)
            outputs.append(self.norm(x))
        return DecoderOutput(torch.stack(outputs))


class DETRTransformer(nn.Module):
    """Encoder and decoder on one feature map: DETR (Carion et al., ECCV 2020) and Conditional DETR.

    Args:
        encoder: global attention among all cells.
        decoder: :class:`VanillaDecoder` or ``ConditionalDecoder``.
    """

    multi_level = False
    decoder: Any

    def __init__(self, encoder: Encoder, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        init_xavier(self)

    @property
    def num_decoder_layers(self) -> int:
        """The number of decoder layers."""
        return len(self.decoder.layers)

    @property
    def has_reference(self) -> bool:
        """Whether boxes are relative to references."""
        return self.decoder.has_reference

    def encode(self, maps: Sequence[Tensor], levels: Levels) -> Memory:
        """Encode the maps ``(B, C, h, w)`` of a batch."""
        assert len(maps) == 1, "one feature map"
        tokens = levels.flatten(maps)
        positions = levels.sine_positions(tokens.shape[-1], offset=0.0)
        return self.encoder(Memory(tokens, levels, positions.to(tokens.dtype)))

    def decode(
        self, queries: Tensor, memory: Memory, box_heads: nn.ModuleList | None = None
    ) -> DecoderOutput:
        """Decode positional queries ``(B, Q, C)``; ``box_heads`` are for the deformable transformer only."""
        return self.decoder(queries, memory)


class DeformableTransformer(DETRTransformer):
    """Deformable DETR's transformer (Zhu et al., ICLR 2021), single stage, with learned content queries.

    Args:
        encoder: deformable attention among the cells of all levels.
        layers: decoder layers with deformable attention into the memory.
        dim: channels.
        num_levels: feature maps.
        num_queries: content queries.
    """

    multi_level = True
    has_reference = True

    def __init__(
        self, encoder: Encoder, layers: Sequence[DecoderLayer], dim: int, num_levels: int, num_queries: int
    ) -> None:
        decoder = nn.Module()
        decoder.layers = nn.ModuleList(layers)
        super().__init__(encoder, decoder)
        self.level_embed = nn.Parameter(torch.empty(num_levels, dim))
        self.reference_points = nn.Linear(dim, 2)
        self.tgt_embed = nn.Embedding(num_queries, dim)
        nn.init.normal_(self.level_embed)
        nn.init.xavier_uniform_(self.reference_points.weight)
        nn.init.zeros_(self.reference_points.bias)
        nn.init.xavier_uniform_(self.tgt_embed.weight)

    def encode(self, maps: Sequence[Tensor], levels: Levels) -> Memory:
        """Encode the maps ``(B, C, h, w)`` of a batch, finest first."""
        tokens = levels.flatten(maps)
        positions = levels.sine_positions(tokens.shape[-1], offset=0.0, embedding=self.level_embed)
        reference = levels.on_every_level(levels.centers())
        return self.encoder(Memory(tokens, levels, positions.to(tokens.dtype)), reference)

    def decode(
        self, queries: Tensor, memory: Memory, box_heads: nn.ModuleList | None = None
    ) -> DecoderOutput:
        """Decode positional queries ``(B, Q, C)``; the content comes from ``tgt_embed``.

        With ``box_heads`` (one per layer), every layer refines the references of the next one (appendix A.4).
        Without, all layers share the first references, as in pre-training.
        """
        reference = self.reference_points(queries).float().sigmoid()
        x = self.tgt_embed.weight.to(queries.dtype)[None].expand(len(queries), -1, -1)
        outputs, references = [], []
        for index, layer in enumerate(self.decoder.layers):
            references.append(reference)
            x = layer(x, queries, memory, memory.levels.on_every_level(reference))
            outputs.append(x)
            if box_heads is not None:
                reference = refine_boxes(box_heads[index](x).float(), reference).detach()
        return DecoderOutput(torch.stack(outputs), references)
