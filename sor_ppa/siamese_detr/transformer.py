"""The transformers of DETR, Conditional DETR and Deformable DETR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.detr.attention import ProjectedAttention
from ..layers.detr.boxes import refine_boxes
from ..layers.detr.layers import DecoderLayer, Encoder, ResidualLayer, init_xavier
from ..layers.detr.levels import Levels, Memory
from ..layers.detr.mlp import MLP
from ..layers.detr.positions import sine_embedding


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
    """DETR's decoder; one shared norm for the outputs of all layers."""

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


class ConditionalDecoderLayer(ResidualLayer):
    """Decoder layer whose cross-attention separates content and position (Conditional DETR, section 3.3).

    The ``first`` layer adds the positional query to the content query in the cross-attention.
    """

    def __init__(self, num_heads: int, dim: int, ffn_dim: int, dropout: float, first: bool) -> None:
        super().__init__(dim, ffn_dim, dropout, num_norms=3)
        self.num_heads = num_heads
        self.sa_qcontent_proj = nn.Linear(dim, dim)
        self.sa_qpos_proj = nn.Linear(dim, dim)
        self.sa_kcontent_proj = nn.Linear(dim, dim)
        self.sa_kpos_proj = nn.Linear(dim, dim)
        self.sa_v_proj = nn.Linear(dim, dim)
        self.ca_qcontent_proj = nn.Linear(dim, dim)
        self.ca_kcontent_proj = nn.Linear(dim, dim)
        self.ca_kpos_proj = nn.Linear(dim, dim)
        self.ca_v_proj = nn.Linear(dim, dim)
        self.ca_qpos_sine_proj = nn.Linear(dim, dim)
        self.ca_qpos_proj = nn.Linear(dim, dim) if first else None
        self.self_attn = ProjectedAttention(dim, num_heads, dropout)
        self.cross_attn = ProjectedAttention(dim, num_heads, dropout)

    def forward(self, x: Tensor, query_pos: Tensor, query_sine: Tensor, memory: Memory) -> Tensor:
        """Refine queries ``(B, Q, C)``."""
        mixed = self.self_attn(
            self.sa_qcontent_proj(x) + self.sa_qpos_proj(query_pos),
            self.sa_kcontent_proj(x) + self.sa_kpos_proj(query_pos),
            self.sa_v_proj(x),
        )
        x = self.add("norm1", x, mixed)

        q, k = self.ca_qcontent_proj(x), self.ca_kcontent_proj(memory.tokens)
        k_pos = self.ca_kpos_proj(memory.positions)
        if self.ca_qpos_proj is not None:
            q, k = q + self.ca_qpos_proj(query_pos), k + k_pos
        mixed = self.cross_attn(
            self._join_heads(q, self.ca_qpos_sine_proj(query_sine)),
            self._join_heads(k, k_pos),
            self.ca_v_proj(memory.tokens),
            memory.levels.padding,
        )
        return self.feed_forward(self.add("norm2", x, mixed))

    def _join_heads(self, content: Tensor, position: Tensor) -> Tensor:
        """Join two ``(B, N, C)`` to ``(B, N, 2C)``: per head its content, then its position."""
        parts = [t.unflatten(-1, (self.num_heads, -1)) for t in (content, position)]
        return torch.cat(parts, dim=-1).flatten(-2)


class ConditionalDecoder(nn.Module):
    """Decoder of Conditional DETR (Meng et al., ICCV 2021); its layers share a reference point per query."""

    has_reference = True

    def __init__(self, layers: Sequence[ConditionalDecoderLayer], dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)
        self.query_scale = MLP(dim, dim, dim, 2)
        self.ref_point_head = MLP(dim, dim, 2, 2)

    def forward(self, queries: Tensor, memory: Memory) -> DecoderOutput:
        """Decode positional queries ``(B, Q, C)`` whose content starts at zero."""
        reference = self.ref_point_head(queries).float().sigmoid()
        sine = sine_embedding(reference, queries.shape[-1] // 2)
        x, outputs = torch.zeros_like(queries), []
        for index, layer in enumerate(self.layers):
            query_sine = sine if index == 0 else sine * self.query_scale(x)
            x = layer(x, queries, query_sine.to(queries.dtype), memory)
            outputs.append(self.norm(x))
        return DecoderOutput(torch.stack(outputs), [reference] * len(outputs))


class DETRTransformer(nn.Module):
    """Encoder and decoder on one feature map: DETR (Carion et al., ECCV 2020) and Conditional DETR."""

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
    """Deformable DETR's transformer (Zhu et al., ICLR 2021), single stage, with learned content queries."""

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
        x = self.tgt_embed.weight.to(queries.dtype)[None].expand(queries.shape[0], -1, -1)
        outputs, references = [], []
        for index, layer in enumerate(self.decoder.layers):
            references.append(reference)
            x = layer(x, queries, memory, memory.levels.on_every_level(reference))
            outputs.append(x)
            if box_heads is not None:
                reference = refine_boxes(box_heads[index](x).float(), reference).detach()
        return DecoderOutput(torch.stack(outputs), references)
