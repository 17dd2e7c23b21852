"""The transformer decoder: queries read the pixels inside the masks that they predicted before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.layers import ResidualLayer, init_xavier
from ..layers.detr.levels import Levels, build_levels
from ..layers.detr.mlp import MLP
from .pixel_decoder import PixelFeatures
from .seeds import SeedQueries

__all__ = ["MaskDecoderOutput", "MaskedDecoder", "MaskedDecoderLayer", "QueryPredictions"]


@dataclass(frozen=True)
class QueryPredictions:
    """Predictions of one decoder layer for B images with Q queries each."""

    #: ``(B, Q, K + 1)``; the last class means "no object".
    logits: Tensor
    #: ``(B, Q, H / 4, W / 4)`` logits.
    masks: Tensor
    #: ``(B, Q, C)`` normalized query features.
    queries: Tensor

    def first(self, count: int) -> QueryPredictions:
        """Return the predictions of the first queries."""
        return QueryPredictions(self.logits[:, :count], self.masks[:, :count], self.queries[:, :count])


@dataclass(frozen=True)
class MaskDecoderOutput:
    """What the decoder computes."""

    #: of the supervised layers, the last one last.
    predictions: list[QueryPredictions]
    #: mask logits ``(B, G, H / 4, W / 4)`` of guided queries in the same layers.
    guided: list[Tensor]
    #: logits ``(B, S)`` of the tokens where queries are seeds.
    objectness: Tensor | None


@dataclass(frozen=True)
class _LevelMemory:
    """What queries read; sequences have one entry a level, coarsest first."""

    #: ``(B, S, C)`` of all levels, and their position embedding.
    tokens: Tensor
    positions: Tensor
    geometry: Levels
    #: ``(B, h * w, C)``.
    keys: Sequence[Tensor]
    values: Sequence[Tensor]
    #: ``(B, mask_dim, h * w)`` mask features at the size of the level.
    masks: list[Tensor]


class MaskedAttention(nn.MultiheadAttention):
    """PyTorch's multi-head attention, batch first, with one mask for all heads of an image."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__(dim, num_heads, batch_first=True)

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """Return ``(B, Q, C)``.

        Args:
            query: ``(B, Q, C)``.
            key: ``(B, S, C)``.
            value: ``(B, S, C)``.
            allowed: ``(B, Q, S)`` bool, True = may be read; at least one in each row.
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = None if allowed is None else allowed[:, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return F.linear(mixed.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias)


class MaskedDecoderLayer(ResidualLayer):
    """Masked attention into a map, attention among queries, feed-forward network (Mask2Former, figure 2)."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__(dim, ffn_dim, dropout=0.0, num_norms=3)
        self.cross_attn = MaskedAttention(dim, num_heads)
        self.self_attn = MaskedAttention(dim, num_heads)

    def forward(
        self,
        query: Tensor,
        positions: Tensor,
        key: Tensor,
        value: Tensor,
        allowed: Tensor,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Refine queries ``(B, Q, C)`` with positions of the same shape.

        Args:
            query: to refine.
            positions: of the queries.
            key: ``(B, S, C)`` tokens of a map with their positions.
            value: ``(B, S, C)`` the tokens.
            allowed: ``(B, Q, S)`` bool, True = the query may read the token.
            visible: ``(1, Q, Q)`` bool, True = the query may read the other one; None: all.
        """
        query = self.add("norm1", query, self.cross_attn(query + positions, key, value, allowed))
        placed = query + positions
        return self.feed_forward(self.add("norm2", query, self.self_attn(placed, placed, query, visible)))


class MaskedDecoder(nn.Module):
    """Transformer decoder with masked attention (Mask2Former, section 3.2).

    Layer i reads map i mod L, coarsest first.

    Args:
        dim: width of queries and maps.
        mask_dim: width of the mask features.
        num_classes: K, not counting "no object".
        num_queries: Q.
        num_layers, num_heads, ffn_dim: of the layers.
        num_levels: maps L.
        seeds: chooses the queries among the tokens; None: they are learned.
    """

    def __init__(
        self,
        *,
        dim: int = 256,
        mask_dim: int = 256,
        num_classes: int = 80,
        num_queries: int = 100,
        num_layers: int = 9,
        num_heads: int = 8,
        ffn_dim: int = 2048,
        num_levels: int = 3,
        seeds: SeedQueries | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MaskedDecoderLayer(dim, num_heads, ffn_dim) for _ in range(num_layers))
        init_xavier(self.layers)
        self.decoder_norm = nn.LayerNorm(dim)
        self.seeds = seeds
        if seeds is None:
            self.query_feat = nn.Embedding(num_queries, dim)
            self.query_embed = nn.Embedding(num_queries, dim)
        self.level_embed = nn.Embedding(num_levels, dim)
        self.class_embed = nn.Linear(dim, num_classes + 1)
        self.mask_embed = MLP(dim, dim, mask_dim, 3)

    def forward(
        self, features: PixelFeatures, every_layer: bool, guides: Tensor | None = None
    ) -> MaskDecoderOutput:
        """Return the predictions after each layer, before the first one those of the first queries.

        Args:
            features: of the pixel decoder.
            every_layer: False: return those of the last layer only.
            guides: ``(B, G)`` tokens that become additional queries, which no other query reads; only where
                queries are seeds.
        """
        memory = self._memory(features)
        geometry, seeds = memory.geometry, None
        if self.seeds is not None:
            seeds = self.seeds(
                memory.tokens, memory.positions, geometry.centers()[0], geometry.shapes, guides
            )
            query, positions = seeds.queries, seeds.positions
        else:
            images = memory.tokens.shape[0]
            query, positions = (e.weight.expand(images, -1, -1) for e in (self.query_feat, self.query_embed))
        centers = None if seeds is None else seeds.centers
        own = query.shape[1] - (0 if guides is None else guides.shape[1])
        visible = None
        if guides is not None:
            visible = torch.eye(query.shape[1], dtype=torch.bool, device=query.device)[None]
            visible[:, :own, :own] = True
        predictions = [self.predict(query, features.masks, centers)] if every_layer else []
        for index, layer in enumerate(self.layers):
            level = index % len(memory.keys)
            allowed = self.attended(query, memory.masks[level], geometry.shapes[level], centers)
            query = layer(query, positions, memory.keys[level], memory.values[level], allowed, visible)
            if every_layer or index + 1 == len(self.layers):
                predictions.append(self.predict(query, features.masks, centers))
        guided = [] if guides is None else [prediction.masks[:, own:] for prediction in predictions]
        return MaskDecoderOutput(
            [p.first(own) for p in predictions], guided, None if seeds is None else seeds.objectness
        )

    def predict(
        self, query: Tensor, mask_features: Tensor, centers: Tensor | None = None
    ) -> QueryPredictions:
        """Return the predictions of queries ``(B, Q, C)``; in inference without autocast."""
        exact: AbstractContextManager = nullcontext()
        if not self.training:  # rounding would change scores and outlines
            query = query.to(mask_features.dtype)
            exact = torch.autocast(query.device.type, enabled=False)
        with exact:
            normalized = self.decoder_norm(query)
            masks = torch.einsum("bqc,bchw->bqhw", self.mask_embed(normalized), mask_features)
            if self.seeds is not None and centers is not None:
                masks = masks + self.seeds.prior(normalized, centers, (masks.shape[2], masks.shape[3]))
            return QueryPredictions(self.class_embed(normalized), masks, normalized)

    @torch.no_grad()
    def attended(
        self, query: Tensor, level_masks: Tensor, shape: tuple[int, int], centers: Tensor | None
    ) -> Tensor:
        """Return which tokens of a map lie in the masks of queries; all of them for an empty mask.

        A mask at the size of the map is the product with the mask features at that size: resizing and product
        can be exchanged, and the full masks need not be computed.

        Args:
            query: ``(B, Q, C)``.
            level_masks: ``(B, mask_dim, S)`` mask features at the size of the map.

        Returns:
            ``(B, Q, S)`` bool.
        """
        normalized = self.decoder_norm(query)
        masks = self.mask_embed(normalized) @ level_masks.to(query.dtype)
        if self.seeds is not None and centers is not None:
            masks = masks + self.seeds.prior(normalized, centers, shape).flatten(2)
        inside = masks >= 0
        return inside | ~inside.any(-1, keepdim=True)

    def _memory(self, features: PixelFeatures) -> _LevelMemory:
        maps = features.levels
        shapes = features.shapes
        geometry = build_levels([shapes[-1]], shapes[-1], shapes, maps[0].device, masked=False)
        positions = geometry.sine_positions(maps[0].shape[1], 0.0)
        tokens = geometry.flatten(maps)
        sizes = torch.tensor(geometry.sizes, device=tokens.device)
        values = tokens + self.level_embed.weight.repeat_interleave(sizes, dim=0)
        masks = [
            F.interpolate(features.masks.detach(), shape, mode="bilinear", align_corners=False).flatten(2)
            for shape in shapes
        ]
        keys, parts = (x.split(geometry.sizes, dim=1) for x in (values + positions, values))
        return _LevelMemory(tokens, positions.expand_as(tokens), geometry, keys, parts, masks)
