"""The Deformable DETR transformer (Zhu et al., ICLR 2021), single stage."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..layers.boxes import refine_boxes
from ..layers.deformable_attention import MultiScaleDeformableAttention
from .transformer import (
    Encoded,
    FeatureMaps,
    FeedForward,
    TransformerOutput,
    flatten_levels,
    init_xavier,
    valid_ratios,
)

__all__ = ["DeformableTransformer"]


class DeformableEncoderLayer(FeedForward):
    """Post-norm encoder layer with multi-scale deformable self-attention."""

    def __init__(
        self, dim: int, num_heads: int, ffn_dim: int, dropout: float, num_levels: int, num_points: int
    ) -> None:
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(dim, num_levels, num_heads, num_points)
        self.add_feed_forward(dim, ffn_dim, dropout, num_norms=2)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        reference: Tensor,
        shapes: Sequence[tuple[int, int]],
        padding: Tensor | None,
    ) -> Tensor:
        mixed = self.self_attn(x + positions, reference, x, shapes, padding)
        x = self.norm1(x + self.dropout(mixed))
        return self.norm2(x + self.feed_forward(x))


class DeformableDecoderLayer(FeedForward):
    """Self-attention among the queries, then deformable attention into the memory."""

    def __init__(
        self, dim: int, num_heads: int, ffn_dim: int, dropout: float, num_levels: int, num_points: int
    ) -> None:
        super().__init__()
        self.cross_attn = MultiScaleDeformableAttention(dim, num_levels, num_heads, num_points)
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.add_feed_forward(dim, ffn_dim, dropout, num_norms=3)

    def forward(
        self, x: Tensor, query_pos: Tensor, reference: Tensor, encoded: Encoded, padding: Tensor | None
    ) -> Tensor:
        q = x + query_pos
        x = self.norm2(x + self.dropout(self.self_attn(q, q, x, need_weights=False)[0]))
        mixed = self.cross_attn(x + query_pos, reference, encoded.memory, encoded.shapes, padding)
        x = self.norm1(x + self.dropout(mixed))
        return self.norm3(x + self.feed_forward(x))


class _Layers(nn.Module):
    """Holds ``layers`` under the published name."""

    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)


def cell_centres(shapes: Sequence[tuple[int, int]], ratios: Tensor) -> Tensor:
    """Centre of every cell of every level, as seen from every level.

    Args:
        shapes: (height, width) of each level.
        ratios: (B, levels, 2) valid width and height as fractions of the map.

    Returns:
        (B, S, levels, 2) x, y as fractions of each padded map.
    """
    points = []
    for level, (h, w) in enumerate(shapes):
        y = torch.arange(h, dtype=torch.float32, device=ratios.device) + 0.5
        x = torch.arange(w, dtype=torch.float32, device=ratios.device) + 0.5
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).view(1, h * w, 2)
        size = torch.tensor([w, h], dtype=torch.float32, device=ratios.device)
        points.append(grid / (ratios[:, None, level] * size))
    return torch.cat(points, dim=1)[:, :, None] * ratios[:, None]


class DeformableTransformer(nn.Module):
    """Deformable DETR's transformer with learnt content queries.

    Args:
        dim: channels.
        num_heads: attention heads.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        ffn_dim: width of the feed-forward blocks.
        dropout: dropout of attention, residuals and feed-forward blocks.
        num_levels: feature maps.
        num_points: sampling points a head and level.
        num_queries: content queries.
    """

    has_reference = True

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        encoder_layers: int,
        decoder_layers: int,
        ffn_dim: int,
        dropout: float,
        num_levels: int,
        num_points: int,
        num_queries: int,
    ) -> None:
        super().__init__()
        args = (dim, num_heads, ffn_dim, dropout, num_levels, num_points)
        self.num_decoder_layers = decoder_layers
        self.encoder = _Layers([DeformableEncoderLayer(*args) for _ in range(encoder_layers)])
        self.decoder = _Layers([DeformableDecoderLayer(*args) for _ in range(decoder_layers)])
        self.level_embed = nn.Parameter(torch.empty(num_levels, dim))
        self.reference_points = nn.Linear(dim, 2)
        self.tgt_embed = nn.Embedding(num_queries, dim)
        init_xavier(self)
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.reset_parameters()
        nn.init.zeros_(self.reference_points.bias)
        nn.init.normal_(self.level_embed)

    def encode(self, features: FeatureMaps) -> Encoded:
        """Encode all levels.

        Raises:
            ValueError: the number of levels is not that of the level embedding.
        """
        if len(features.sources) != len(self.level_embed):
            raise ValueError(
                f"MODEL.SIAMESE_DETR.NUM_FEATURE_LEVELS: found {len(features.sources)} feature maps, "
                f"expected {len(self.level_embed)}"
            )
        x, padding, positions = flatten_levels(features)
        cells = torch.tensor([h * w for h, w in features.shapes], device=x.device)
        positions = positions + self.level_embed.repeat_interleave(cells, dim=0).to(x.dtype)
        ratios = valid_ratios(features.padding)
        reference = cell_centres(features.shapes, ratios)
        mask = padding if features.padded else None
        for layer in self.encoder.layers:
            x = layer(x, positions, reference, features.shapes, mask)
        return Encoded(x, padding, positions, features.shapes, ratios, features.padded)

    def decode(
        self, queries: Tensor, encoded: Encoded, box_heads: nn.ModuleList | None = None
    ) -> TransformerOutput:
        """Decode positional queries (B, Q, C); the content comes from ``tgt_embed``.

        With ``box_heads`` (one a layer), every layer refines the references of the next
        (section A.4 of the paper); without, all layers share the first ones, as in pre-training.
        """
        padding = encoded.key_padding
        reference = self.reference_points(queries).float().sigmoid()
        x = self.tgt_embed.weight.to(queries.dtype)[None].expand(len(queries), -1, -1)
        ratios = encoded.valid_ratios[:, None]
        outputs, references = [], []
        for index, layer in enumerate(self.decoder.layers):
            references.append(reference)
            scale = ratios if reference.shape[-1] == 2 else torch.cat((ratios, ratios), dim=-1)
            x = layer(x, queries, reference[:, :, None] * scale, encoded, padding)
            outputs.append(x)
            if box_heads is not None:
                reference = refine_boxes(box_heads[index](x).float(), reference).detach()
        return TransformerOutput(torch.stack(outputs), references)
