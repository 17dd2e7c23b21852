"""Encoder that refines the salient tokens only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sor_ppa.layers.deformable_attention import MultiScaleDeformableAttention, Shapes
from sor_ppa.layers.onednn import Linear, linear
from sor_ppa.layers.position_embedding import LearnedPositionEmbedding
from sor_ppa.layers.precision import full_precision

from .levels import Levels
from .salience import SalienceSelection

__all__ = ["SalienceEncoder", "SalienceEncoderLayer"]


class SalienceEncoderLayer(nn.Module):
    """Self-attention among the best tokens, deformable attention and a feed-forward network for all.

    Args:
        dim: width C.
        ffn_dim: width of the feed-forward network.
        num_heads: attention heads.
        num_levels: feature maps.
        num_points: sampling points per head and level.
        dropout: dropout of every residual branch.
        num_attended: how many tokens attend to each other (fewer where fewer are there).
    """

    def __init__(
        self,
        dim: int = 256,
        ffn_dim: int = 2048,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        dropout: float = 0.0,
        num_attended: int = 300,
    ) -> None:
        super().__init__()
        self.num_attended = num_attended
        self.pre_attention = nn.MultiheadAttention(dim, num_heads, dropout, batch_first=True)
        self.pre_norm = nn.LayerNorm(dim)
        self.self_attn = MultiScaleDeformableAttention(dim, num_levels, num_heads, num_points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = Linear(dim, ffn_dim)
        self.linear2 = Linear(ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        for weight in (
            self.pre_attention.in_proj_weight,
            self.pre_attention.out_proj.weight,
            self.linear1.weight,
            self.linear2.weight,
        ):
            nn.init.xavier_uniform_(weight)

    def attended(self, scores: Tensor) -> Tensor:
        """Rows ``(B, k)`` of the tokens with the highest ``scores`` ``(B, n)``."""
        return scores.topk(min(self.num_attended, scores.shape[1]), dim=1).indices

    def forward(
        self,
        tokens: Tensor,
        position: Tensor,
        reference: Tensor,
        scores: Tensor,
        value: Tensor,
        shapes: Shapes,
        padding: Tensor | None = None,
    ) -> Tensor:
        """Refine.

        Args:
            tokens: ``(B, n, C)``.
            position: ``(B, n, C)``.
            reference: ``(B, n, L, 2)`` token centres, normalised to the padded maps.
            scores: ``(B, n)``; decides who attends.
            value: ``(B, S, C)`` all tokens, read by the deformable attention.
            shapes: (h, w) of every map.
            padding: ``(B, S)`` bool, True = padded.

        Returns:
            ``(B, n, C)``.
        """
        rows = self.attended(scores).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        best = tokens.gather(1, rows)
        best_with_position = best + position.gather(1, rows)
        context = self.pre_attention(best_with_position, best_with_position, best, need_weights=False)[0]
        tokens = tokens.scatter(1, rows, self.pre_norm(best + self.dropout(context)))

        context = self.self_attn(tokens + position, reference, value, shapes, padding)
        tokens = self.norm1(tokens + self.dropout(context))
        hidden = self.linear2(self.dropout(linear(tokens, self.linear1.weight, self.linear1.bias, relu=True)))
        return self.norm2(tokens + self.dropout(hidden))


class SalienceEncoder(nn.Module):
    """Layers that refine ever fewer tokens, then an embedding of the background (Salience-DETR, 3.3).

    Args:
        layers: the layers, in order.
        dim: width C.
        max_embeddings: rows and columns of a map that have a background vector of their own.
    """

    def __init__(self, layers: list[SalienceEncoderLayer], dim: int, max_embeddings: int = 200) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.background_embedding = LearnedPositionEmbedding(max_embeddings, dim // 2)

    def forward(
        self,
        features: Tensor,
        position: Tensor,
        levels: Levels,
        selection: SalienceSelection,
        class_head: nn.Module,
    ) -> Tensor:
        """Refine the selected tokens.

        The chosen sets are nested, so the kept tokens are gathered once and every layer works on
        the first rows. All layers read the unrefined features, as published.

        Args:
            features: ``(B, S, C)``.
            position: ``(B, S, C)``.
            levels: geometry of the batch.
            selection: the tokens to refine.
            class_head: C -> K; a token's best logit times its salience decides who attends.

        Returns:
            ``(B, S, C)``.
        """
        dim = features.shape[-1]
        rows = selection.indices.unsqueeze(-1)
        tokens = features.gather(1, rows.expand(-1, -1, dim))
        token_position = position.gather(1, rows.expand(-1, -1, dim))
        centres = levels.centres().gather(1, rows.expand(-1, -1, 2))
        reference = centres.unsqueeze(2) * levels.valid_ratios.unsqueeze(1)  # (B, N, L, 2)
        salience = selection.token_logits.gather(1, selection.indices)
        focus = torch.tensor(selection.focus, device=features.device).view(-1, 1, 1)
        rank = torch.arange(tokens.shape[1], device=features.device).view(1, -1, 1)

        for layer, count in zip(self.layers, selection.layer_counts, strict=True):
            chosen = tokens[:, :count]
            with torch.no_grad():
                scores = full_precision(class_head, chosen).amax(-1) * salience[:, :count]
            refined = layer(
                chosen,
                token_position[:, :count],
                reference[:, :count],
                scores,
                features,
                levels.shapes,
                levels.padding,
            )
            if min(selection.focus) < count:
                refined = torch.where(rank[:, :count] < focus, refined, chosen)
            tokens = torch.cat([refined, tokens[:, count:]], dim=1)
        memory = features.scatter(1, rows.expand(-1, -1, dim), tokens)
        return memory + self._background(levels, selection.indices[:, : selection.layer_counts[-1]])

    def _background(self, levels: Levels, foreground: Tensor) -> Tensor:
        """Embedding ``(B, S, C)``, zero at padded tokens and at those of the last layer."""
        maps = [self.background_embedding(h, w) for h, w in levels.shapes]
        weight = torch.ones(foreground.shape[0], sum(levels.sizes), device=foreground.device)
        weight = weight.scatter(1, foreground, 0.0)
        if levels.padding is not None:
            weight = weight.masked_fill(levels.padding, 0.0)
        return torch.cat(maps, dim=0) * weight.unsqueeze(-1)
