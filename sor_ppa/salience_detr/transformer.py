"""The transformer of Salience-DETR: filter, encoder, fusion, query selection, decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..layers.detr.boxes import refine_boxes
from ..layers.detr.layers import DecoderLayer, init_xavier
from ..layers.detr.levels import Levels, Memory
from ..layers.detr.mlp import MLP, prior_logit
from ..layers.detr.positions import sine_embedding
from ..layers.precision import full_precision
from .encoder import SalienceEncoder
from .neck import RepVGGPluXNetwork
from .proposals import DefaultBoxes, default_boxes, select_queries
from .salience import SalienceFilter, SalienceSelection

#: Lower limit of a reference's odds (see ``inverse_sigmoid``).
BOX_EPS = 1e-3


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
    proposals: EncoderProposals
    selection: SalienceSelection
    #: per level ``(B, C, h, w)``: the fused maps that the decoder reads.
    maps: list[Tensor]


class SalienceDecoder(nn.Module):
    """Decoder with iterative box refinement, looking forward twice (DINO, section 3.5)."""

    def __init__(self, layers: Sequence[DecoderLayer], dim: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        for layer in layers:
            init_xavier(layer)
        self.ref_point_head = MLP(2 * dim, dim, dim, 2, xavier=True)
        class_heads = [nn.Linear(dim, num_classes) for _ in layers]
        box_heads = [MLP(dim, dim, 4, 3, xavier=True) for _ in layers]
        for class_head, box_head in zip(class_heads, box_heads, strict=True):
            nn.init.constant_(class_head.bias, prior_logit())
            box_head.zero_last()
        self.class_head = nn.ModuleList(class_heads)
        self.bbox_head = nn.ModuleList(box_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        memory: Memory,
        blocked: Tensor | None = None,
        all_layers: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Refine queries and boxes.

        Args:
            query: ``(B, Q, C)`` content.
            reference: ``(B, Q, 4)`` normalized (cx, cy, w, h).
            memory: what the queries read.
            blocked: ``(Q, Q)`` bool, True = row must not attend to column.
            all_layers: return the predictions of every layer (training), or of the last one only.

        Returns:
            logits ``(n, B, Q, K)`` and boxes ``(n, B, Q, 4)``; n is the number of layers, or 1.
        """
        dim = query.shape[-1]
        logits, boxes = [], []
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            scaled = memory.levels.on_every_level(reference.detach())
            positions = self.ref_point_head(sine_embedding(scaled[:, :, 0], dim // 2))
            query = layer(query, positions, memory, scaled, blocked)
            box_head = self.bbox_head[index]
            if all_layers or index == last:
                normed = self.norm(query)
                logits.append(full_precision(self.class_head[index], normed))
                boxes.append(refine_boxes(full_precision(box_head, normed), reference, BOX_EPS))
            if index < last:
                offsets = full_precision(box_head, query)
                reference = refine_boxes(offsets, reference.detach(), BOX_EPS)
        return torch.stack(logits), torch.stack(boxes)


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
        num_queries: queries Q.
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
        """Set unusable tokens ``(B, S, C)`` to zero and apply linear layer and norm.

        Tokens and queries are selected by the result. In mixed precision the selection would differ.
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
        image = torch.arange(index.shape[0], device=index.device).unsqueeze(1)
        offsets = full_precision(self.encoder_bbox_head, tokens[image, index])
        refined = (offsets + boxes.logits[image, index]).sigmoid()
        return EncoderProposals(index, logits[image, index], refined)

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
        query = self.tgt_embed.weight[:count].expand(reference.shape[0], -1, -1)
        if extra_queries is not None:
            query = torch.cat([extra_queries[0], query], dim=1)
            reference = torch.cat([extra_queries[1].sigmoid(), reference], dim=1)
            if blocked is not None:
                blocked = blocked[: query.shape[1], : query.shape[1]]
        logits, refined = self.decoder(query, reference, memory, blocked, all_layers=self.training)
        return SalienceOutput(logits, refined, proposals, selection, fused)
