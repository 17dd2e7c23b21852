"""Salience transformer: filter, encoder, fusion, query selection, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sor_ppa.layers.onednn import Linear
from sor_ppa.layers.position_embedding import sine_position_map
from sor_ppa.layers.precision import full_precision

from .decoder import SalienceDecoder, class_bias, xavier_mlp
from .encoder import SalienceEncoder
from .levels import Levels
from .neck import RepVGGPluXNetwork
from .proposals import DefaultBoxes, default_boxes, select_proposals
from .salience import SalienceFilter, SalienceSelection

__all__ = ["Proposals", "SalienceTransformer", "TransformerOutput"]


@dataclass(frozen=True)
class Proposals:
    """The encoder's predictions that become queries."""

    #: ``(B, Q)`` int64 flat token indices, best first.
    index: Tensor
    #: ``(B, Q, K)``.
    logits: Tensor
    #: ``(B, Q, 4)`` normalised (cx, cy, w, h).
    boxes: Tensor


@dataclass(frozen=True)
class TransformerOutput:
    """Predictions; D denoising queries come before the Q matching ones."""

    #: ``(n, B, D + Q, K)`` class logits of the decoder layers (n = 1 outside training).
    logits: Tensor
    #: ``(n, B, D + Q, 4)`` normalised (cx, cy, w, h).
    boxes: Tensor
    #: ``(B, D + Q, C)`` normalised queries of the last layer.
    queries: Tensor
    proposals: Proposals
    selection: SalienceSelection
    #: per level ``(B, C, h, w)``: the fused maps that the decoder reads.
    memory: list[Tensor]


class SalienceTransformer(nn.Module):
    """The transformer of Salience-DETR (CVPR 2024, figure 2).

    Args:
        salience: scores and filters tokens.
        encoder: refines the kept tokens.
        neck: cross-level token fusion.
        decoder: refines queries.
        dim: width C.
        num_levels: feature maps.
        num_classes: classes K.
        num_queries: queries.
        nms_threshold: overlap of the redundancy removal.
    """

    def __init__(
        self,
        *,
        salience: SalienceFilter,
        encoder: SalienceEncoder,
        neck: RepVGGPluXNetwork,
        decoder: SalienceDecoder,
        dim: int,
        num_levels: int,
        num_classes: int,
        num_queries: int = 900,
        nms_threshold: float = 0.3,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.num_queries = num_queries
        self.nms_threshold = nms_threshold
        self.salience = salience
        self.encoder = encoder
        self.neck = neck
        self.decoder = decoder
        self.level_embeds = nn.Parameter(torch.randn(num_levels, dim))
        self.enc_output = Linear(dim, dim)
        self.enc_output_norm = nn.LayerNorm(dim)
        self.encoder_class_head = Linear(dim, num_classes)
        self.encoder_bbox_head = xavier_mlp(dim, dim, 4, 3)
        self.tgt_embed = nn.Embedding(num_queries, dim)
        nn.init.xavier_uniform_(self.enc_output.weight)
        nn.init.zeros_(self.enc_output.bias)
        nn.init.constant_(self.encoder_class_head.bias, class_bias())
        self.encoder_bbox_head.zero_last()

    def project(self, tokens: Tensor, boxes: DefaultBoxes) -> Tensor:
        """LayerNorm(Linear(x)) of tokens ``(B, S, C)``, unusable ones zeroed before; in float32.

        Tokens and queries are chosen by what comes of it: mixed precision would choose others.
        """
        usable = tokens * boxes.usable.unsqueeze(-1)
        return self.enc_output_norm(full_precision(self.enc_output, usable))

    def position(self, levels: Levels) -> Tensor:
        """Sine position plus level embedding of every token, ``(B, S, C)``."""
        maps = [
            sine_position_map(padding, self.dim // 2) + embedding.view(1, -1, 1, 1)
            for padding, embedding in zip(levels.paddings, self.level_embeds, strict=True)
        ]
        return levels.flatten(maps)

    def propose(self, memory: Tensor, boxes: DefaultBoxes, levels: Levels) -> Proposals:
        """Choose the queries among all tokens ``(B, S, C)``; boxes are computed for the chosen only."""
        tokens = self.project(memory, boxes)
        logits = full_precision(self.encoder_class_head, tokens)
        index = select_proposals(
            logits.detach().amax(-1), boxes.usable, levels, self.num_queries, iou_threshold=self.nms_threshold
        )
        rows = index.unsqueeze(-1)
        chosen = tokens.gather(1, rows.expand(-1, -1, self.dim))
        offsets = full_precision(self.encoder_bbox_head, chosen)
        return Proposals(
            index=index,
            logits=logits.gather(1, rows.expand(-1, -1, logits.shape[-1])),
            boxes=(offsets + boxes.logits.gather(1, rows.expand(-1, -1, 4))).sigmoid(),
        )

    def forward(
        self,
        maps: Sequence[Tensor],
        levels: Levels,
        extra_queries: tuple[Tensor, Tensor] | None = None,
        blocked: Tensor | None = None,
    ) -> TransformerOutput:
        """Detect.

        Args:
            maps: per level ``(B, C, h, w)``, finest first.
            levels: geometry of the batch.
            extra_queries: content ``(B, D, C)`` and box logits ``(B, D, 4)`` of denoising queries.
            blocked: ``(D + Q, D + Q)`` bool, True = row must not see column.
        """
        features = levels.flatten(maps)
        position = self.position(levels)
        boxes = default_boxes(levels)
        selection = self.salience(self.project(features + position, boxes), levels)
        memory = self.encoder(features, position, levels, selection, self.encoder_class_head)
        memory_maps = self.neck(levels.unflatten(memory))
        memory = levels.flatten(memory_maps)
        proposals = self.propose(memory, boxes, levels)

        reference = proposals.boxes.detach()
        count = reference.shape[1]
        query = self.tgt_embed.weight[:count].expand(len(reference), -1, -1)
        if extra_queries is not None:
            query = torch.cat([extra_queries[0], query], dim=1)
            reference = torch.cat([extra_queries[1].sigmoid(), reference], dim=1)
            if blocked is not None:
                blocked = blocked[: query.shape[1], : query.shape[1]]
        logits, refined, queries = self.decoder(
            query, reference, memory, levels, blocked, all_layers=self.training
        )
        return TransformerOutput(logits, refined, queries, proposals, selection, memory_maps)
