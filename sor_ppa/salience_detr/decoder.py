"""Decoder with iterative box refinement, looking forward twice."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sor_ppa.layers.boxes import refine_boxes
from sor_ppa.layers.deformable_attention import MultiScaleDeformableAttention, Shapes
from sor_ppa.layers.mlp import MLP
from sor_ppa.layers.onednn import Linear, linear
from sor_ppa.layers.position_embedding import sine_embedding
from sor_ppa.layers.precision import full_precision

from .levels import Levels

__all__ = ["BOX_EPS", "SalienceDecoder", "SalienceDecoderLayer", "class_bias", "xavier_mlp"]

#: Limit of a reference's logit (see ``inverse_sigmoid``).
BOX_EPS = 1e-3


def class_bias(prior: float = 0.01) -> float:
    """The logit of the foreground probability at initialisation."""
    return -math.log((1 - prior) / prior)


def xavier_mlp(in_dim: int, hidden_dim: int, out_dim: int, num_layers: int) -> MLP:
    """An MLP with Xavier weights and zero biases."""
    mlp = MLP(in_dim, hidden_dim, out_dim, num_layers)
    for layer in mlp.layers:
        nn.init.xavier_uniform_(layer.weight)  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return mlp


class SalienceDecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention and a feed-forward network.

    Args:
        dim: width C.
        ffn_dim: width of the feed-forward network.
        num_heads: attention heads.
        num_levels: feature maps.
        num_points: sampling points per head and level.
        dropout: dropout of every residual branch.
    """

    def __init__(
        self,
        dim: int = 256,
        ffn_dim: int = 2048,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cross_attn = MultiScaleDeformableAttention(dim, num_levels, num_heads, num_points)
        self.norm1 = nn.LayerNorm(dim)
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.linear1 = Linear(dim, ffn_dim)
        self.linear2 = Linear(ffn_dim, dim)
        self.norm3 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for weight in (
            self.self_attn.in_proj_weight,
            self.self_attn.out_proj.weight,
            self.linear1.weight,
            self.linear2.weight,
        ):
            nn.init.xavier_uniform_(weight)

    def forward(
        self,
        query: Tensor,
        position: Tensor,
        reference: Tensor,
        value: Tensor,
        shapes: Shapes,
        padding: Tensor | None = None,
        blocked: Tensor | None = None,
    ) -> Tensor:
        """One round of refinement.

        Args:
            query: ``(B, Q, C)``.
            position: ``(B, Q, C)``.
            reference: ``(B, Q, L, 4)`` boxes (cx, cy, w, h), normalised to the padded maps.
            value: ``(B, S, C)``.
            shapes: (h, w) of every map.
            padding: ``(B, S)`` bool, True = padded.
            blocked: ``(Q, Q)`` bool, True = row must not see column.

        Returns:
            ``(B, Q, C)``.
        """
        placed = query + position
        context = self.self_attn(placed, placed, query, attn_mask=blocked, need_weights=False)[0]
        query = self.norm2(query + self.dropout(context))
        context = self.cross_attn(query + position, reference, value, shapes, padding)
        query = self.norm1(query + self.dropout(context))
        hidden = self.linear2(self.dropout(linear(query, self.linear1.weight, self.linear1.bias, relu=True)))
        return self.norm3(query + self.dropout(hidden))


class SalienceDecoder(nn.Module):
    """Layers with a class and a box head each.

    Args:
        layers: the layers, in order.
        dim: width C.
        num_classes: classes K.
    """

    def __init__(self, layers: list[SalienceDecoderLayer], dim: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.ref_point_head = xavier_mlp(2 * dim, dim, dim, 2)
        class_heads = [Linear(dim, num_classes) for _ in layers]
        box_heads = [xavier_mlp(dim, dim, 4, 3) for _ in layers]
        for class_head, box_head in zip(class_heads, box_heads, strict=True):
            nn.init.constant_(class_head.bias, class_bias())
            box_head.zero_last()
        self.class_head = nn.ModuleList(class_heads)
        self.bbox_head = nn.ModuleList(box_heads)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        query: Tensor,
        reference: Tensor,
        value: Tensor,
        levels: Levels,
        blocked: Tensor | None = None,
        all_layers: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Refine queries and boxes.

        Args:
            query: ``(B, Q, C)`` content.
            reference: ``(B, Q, 4)`` normalised (cx, cy, w, h).
            value: ``(B, S, C)``.
            levels: geometry of the batch.
            blocked: ``(Q, Q)`` bool, True = row must not see column.
            all_layers: give the predictions of every layer (training), or of the last one only.

        Returns:
            logits ``(n, B, Q, K)``, boxes ``(n, B, Q, 4)`` and the last layer's normalised queries
            ``(B, Q, C)``; n is the number of layers, or 1.
        """
        ratio = torch.cat([levels.valid_ratios, levels.valid_ratios], dim=-1).unsqueeze(1)  # (B, 1, L, 4)
        dim = query.shape[-1]
        logits, boxes = [], []
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            scaled = reference.detach().unsqueeze(2) * ratio
            position = self.ref_point_head(sine_embedding(scaled[:, :, 0], dim // 2))
            query = layer(query, position, scaled, value, levels.shapes, levels.padding, blocked)
            box_head = self.bbox_head[index]
            if all_layers or index == last:
                normed = self.norm(query)
                logits.append(full_precision(self.class_head[index], normed))
                boxes.append(refine_boxes(full_precision(box_head, normed), reference, BOX_EPS))
            if index < last:
                offsets = full_precision(box_head, query)
                reference = refine_boxes(offsets, reference.detach(), BOX_EPS)
        return torch.stack(logits), torch.stack(boxes), normed
