"""Encoder that refines the salient tokens only."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..layers.detr.layers import EncoderLayer, init_xavier
from ..layers.detr.levels import Levels, Memory
from ..layers.detr.positions import LearnedPositionEmbedding
from ..layers.precision import full_precision
from ..layers.tracing import first, with_first
from .salience import SalienceSelection


class SalienceEncoderLayer(EncoderLayer):
    """Self-attention among the ``num_attended`` best tokens, then a deformable encoder layer for all."""

    def __init__(
        self,
        pre_attention: nn.MultiheadAttention,
        attention: nn.Module,
        dim: int,
        ffn_dim: int,
        dropout: float = 0.0,
        num_attended: int = 300,
    ) -> None:
        super().__init__(attention, dim, ffn_dim, dropout)
        self.num_attended = num_attended
        self.pre_attention = pre_attention
        self.pre_norm = nn.LayerNorm(dim)
        init_xavier(self)

    def attended(self, scores: Tensor) -> Tensor:
        """Return the indices ``(B, k)`` of the highest scores ``(B, n)``."""
        return scores.topk(torch.sym_min(self.num_attended, scores.shape[1]), dim=1).indices

    def forward(  # type: ignore[override]
        self, tokens: Tensor, positions: Tensor, memory: Memory, reference: Tensor, scores: Tensor
    ) -> Tensor:
        """Refine tokens; arguments as in :class:`EncoderLayer`, besides scores ``(B, n)`` of the tokens."""
        rows = self.attended(scores).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])
        best = tokens.gather(1, rows)
        placed = best + positions.gather(1, rows)
        mixed = self.pre_attention(placed, placed, best, need_weights=False)[0]
        tokens = tokens.scatter(1, rows, self.add("pre_norm", best, mixed))
        return super().forward(tokens, positions, memory, reference)


class SalienceEncoder(nn.Module):
    """Layers that refine ever fewer tokens, then an embedding of the background (Salience-DETR, 3.3).

    The first ``max_embeddings`` rows and columns of a map have a background vector of their own.
    """

    def __init__(self, layers: Iterable[SalienceEncoderLayer], dim: int, max_embeddings: int = 200) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.background_embedding = LearnedPositionEmbedding(max_embeddings, dim // 2)

    def forward(self, memory: Memory, selection: SalienceSelection, class_head: nn.Module) -> Tensor:
        """Return all tokens ``(B, S, C)`` of the memory with the selected ones refined.

        The token sets of the layers are nested, so the kept tokens are gathered once and every layer
        works on the first rows. All layers read the unrefined tokens, as published. A token's best logit of
        ``class_head`` times its salience decides which tokens attend to each other.
        """
        features, positions, levels = memory.tokens, memory.positions, memory.levels
        assert positions is not None
        rows = selection.indices.unsqueeze(-1)
        wide = rows.expand(-1, -1, features.shape[-1])
        tokens, positions = features.gather(1, wide), positions.gather(1, wide)
        reference = levels.on_every_level(levels.centers().gather(1, rows.expand(-1, -1, 2)))
        salience = selection.token_logits.gather(1, selection.indices)
        focus = torch.tensor(selection.focus, device=features.device).view(-1, 1, 1)
        rank = torch.arange(tokens.shape[1], device=features.device).view(1, -1, 1)

        for layer, count in zip(self.layers, selection.layer_counts, strict=True):
            chosen = first(tokens, count)
            with torch.no_grad():
                scores = full_precision(class_head, chosen).amax(-1) * first(salience, count)
            refined = layer(chosen, first(positions, count), memory, first(reference, count), scores)
            if len(selection.focus) > 1 and min(selection.focus) < count:
                refined = torch.where(first(rank, count) < focus, refined, chosen)
            tokens = with_first(tokens, refined)
        foreground = first(selection.indices, selection.layer_counts[-1])
        return features.scatter(1, wide, tokens) + self._background(levels, foreground)

    def _background(self, levels: Levels, foreground: Tensor) -> Tensor:
        """Return the embedding ``(B, S, C)``, zero at padded and at foreground tokens."""
        maps = [self.background_embedding(h, w) for h, w in levels.shapes]
        weight = torch.ones(foreground.shape[0], sum(levels.sizes), device=foreground.device)
        weight = weight.scatter(1, foreground, 0.0)
        if levels.padding is not None:
            weight = weight.masked_fill(levels.padding, 0.0)
        return torch.cat(maps, dim=0) * weight.unsqueeze(-1)
