"""The transformer of Salience-DETR: filter, encoder, fusion, query selection, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers.detr.levels import Levels, Memory
from ..layers.detr.mlp import MLP, prior_logit
from ..layers.precision import full_precision
from .decoder import SalienceDecoder
from .encoder import SalienceEncoder
from .neck import RepVGGPluXNetwork
from .proposals import DefaultBoxes, default_boxes, select_queries
from .salience import SalienceFilter, SalienceSelection

__all__ = ["EncoderProposals", "SalienceOutput", "SalienceTransformer"]


@dataclass(frozen=True)
class EncoderProposals:
    """The encoder's predictions that become queries."""

    #: ``(B, Q)`` int64 token indices, best first.
    index: Tensor
    #: ``(B, Q, K)``.
    logits: Tensor
    #: ``(B, Q, 4)`` normalized (cx, cy, w, h).
    boxes: Tensor


@dataclass(frozen=True)
class SalienceOutput:
    """Predictions. The D denoising queries come before the Q matching ones."""

    #: ``(n, B, D + Q, K)`` class logits of the decoder layers (n = 1 outside training).
    logits: Tensor
    #: ``(n, B, D + Q, 4)`` normalized (cx, cy, w, h).
    boxes: Tensor
    #: ``(B, D + Q, C)`` normalized queries of the last layer.
    queries: Tensor
    proposals: EncoderProposals
    selection: SalienceSelection
    #: per level ``(B, C, h, w)``: the fused maps that the decoder reads.
    maps: list[Tensor]


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
        nms_threshold: IoU of the redundancy removal.
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
        self.enc_output = nn.Linear(dim, dim)
        self.enc_output_norm = nn.LayerNorm(dim)
        self.encoder_class_head = nn.Linear(dim, num_classes)
        self.encoder_bbox_head = MLP(dim, dim, 4, 3, xavier=True)
        self.tgt_embed = nn.Embedding(num_queries, dim)
        nn.init.xavier_uniform_(self.enc_output.weight)
        nn.init.zeros_(self.enc_output.bias)
        nn.init.constant_(self.encoder_class_head.bias, prior_logit())
        self.encoder_bbox_head.zero_last()

    def project(self, tokens: Tensor, boxes: DefaultBoxes) -> Tensor:
        """Set unusable tokens ``(B, S, C)`` to zero and apply linear layer and norm, in float32.

        Tokens and queries are selected by the result; in mixed precision the selection would differ.
        """
        usable = tokens * boxes.usable.unsqueeze(-1)
        return self.enc_output_norm(full_precision(self.enc_output, usable))

    def propose(self, memory: Tensor, boxes: DefaultBoxes, levels: Levels) -> EncoderProposals:
        """Select the queries among all tokens ``(B, S, C)`` and compute the boxes of the selected ones."""
        tokens = self.project(memory, boxes)
        logits = full_precision(self.encoder_class_head, tokens)
        index = select_queries(
            logits.detach().amax(-1), boxes.usable, levels, self.num_queries, iou_threshold=self.nms_threshold
        )
        rows = index.unsqueeze(-1)
        chosen = tokens.gather(1, rows.expand(-1, -1, self.dim))
        offsets = full_precision(self.encoder_bbox_head, chosen)
        return EncoderProposals(
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
    ) -> SalienceOutput:
        """Detect objects.

        Args:
            maps: per level ``(B, C, h, w)``, finest first.
            levels: geometry of the batch.
            extra_queries: content ``(B, D, C)`` and box logits ``(B, D, 4)`` of denoising queries.
            blocked: ``(D + Q, D + Q)`` bool, True = row must not attend to column.
        """
        positions = levels.sine_positions(self.dim, offset=-0.5, embedding=self.level_embeds)
        features = Memory(levels.flatten(maps), levels, positions)
        boxes = default_boxes(levels)
        selection = self.salience(self.project(features.tokens + positions, boxes), levels)
        encoded = self.encoder(features, selection, self.encoder_class_head)
        fused = self.neck(levels.unflatten(encoded))
        memory = Memory(levels.flatten(fused), levels)
        proposals = self.propose(memory.tokens, boxes, levels)

        reference = proposals.boxes.detach()
        count = reference.shape[1]
        query = self.tgt_embed.weight[:count].expand(len(reference), -1, -1)
        if extra_queries is not None:
            query = torch.cat([extra_queries[0], query], dim=1)
            reference = torch.cat([extra_queries[1].sigmoid(), reference], dim=1)
            if blocked is not None:
                blocked = blocked[: query.shape[1], : query.shape[1]]
        logits, refined, queries = self.decoder(query, reference, memory, blocked, all_layers=self.training)
        return SalienceOutput(logits, refined, queries, proposals, selection, fused)
