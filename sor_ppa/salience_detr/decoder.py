"""Decoder with iterative box refinement, looking forward twice (DINO, section 3.5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers.detr.boxes import refine_boxes
from ..layers.detr.layers import DecoderLayer, init_xavier
from ..layers.detr.levels import Memory
from ..layers.detr.mlp import MLP, prior_logit
from ..layers.detr.positions import sine_embedding
from ..layers.precision import full_precision

__all__ = ["BOX_EPS", "SalienceDecoder"]

#: Lower limit of a reference's odds (see ``inverse_sigmoid``).
BOX_EPS = 1e-3


class SalienceDecoder(nn.Module):
    """Decoder layers with a class head and a box head each.

    Args:
        layers: the layers, in order.
        dim: width C.
        num_classes: classes K.
    """

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
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Refine queries and boxes.

        Args:
            query: ``(B, Q, C)`` content.
            reference: ``(B, Q, 4)`` normalized (cx, cy, w, h).
            memory: what the queries read.
            blocked: ``(Q, Q)`` bool, True = row must not attend to column.
            all_layers: return the predictions of every layer (training), or of the last one only.

        Returns:
            logits ``(n, B, Q, K)``, boxes ``(n, B, Q, 4)`` and the last layer's normalized queries
            ``(B, Q, C)``; n is the number of layers, or 1.
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
        return torch.stack(logits), torch.stack(boxes), normed
