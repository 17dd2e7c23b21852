"""The DETR encoder, the vanilla DETR decoder and what every transformer of this wing returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "Encoded",
    "EncoderLayer",
    "FeatureMaps",
    "FeedForward",
    "TransformerOutput",
    "VanillaTransformer",
    "encode_single_level",
]


@dataclass(frozen=True)
class FeatureMaps:
    """Projected feature maps of a batch, one entry a level.

    Attributes:
        sources: (B, C, H, W) features.
        padding: (B, H, W) bool, true on padding.
        positions: (B, C, H, W) position encodings.
        padded: whether any padding is true (known without asking the device).
    """

    sources: list[Tensor]
    padding: list[Tensor]
    positions: list[Tensor]
    padded: bool = True

    @property
    def shapes(self) -> list[tuple[int, int]]:
        return [(int(s.shape[-2]), int(s.shape[-1])) for s in self.sources]


@dataclass(frozen=True)
class Encoded:
    """Encoder output: the memory and what the decoder needs to look into it.

    Attributes:
        memory: (B, S, C), all levels flattened and joined.
        padding: (B, S) bool, true on padding.
        positions: (B, S, C).
        shapes: (height, width) of each level.
        valid_ratios: (B, levels, 2) width and height of the valid part as a fraction of the map.
        padded: whether any padding is true.
    """

    memory: Tensor
    padding: Tensor
    positions: Tensor
    shapes: Sequence[tuple[int, int]]
    valid_ratios: Tensor
    padded: bool = True

    @property
    def key_padding(self) -> Tensor | None:
        """The padding, or None where there is none: attention without a mask is faster."""
        return self.padding if self.padded else None

    def maps(self) -> list[Tensor]:
        """The memory as one (B, C, H, W) map a level."""
        parts = self.memory.split([h * w for h, w in self.shapes], dim=1)
        return [p.transpose(1, 2).unflatten(-1, s) for p, s in zip(parts, self.shapes, strict=True)]


@dataclass(frozen=True)
class TransformerOutput:
    """Decoder output.

    Attributes:
        hidden: (L, B, Q, C), one entry a decoder layer.
        references: one entry a decoder layer, (B, Q, 2) points or (B, Q, 4) boxes in [0, 1]
            that the layer's boxes are relative to; None where the transformer has none.
    """

    hidden: Tensor
    references: list[Tensor] | None


def flatten_levels(features: FeatureMaps) -> tuple[Tensor, Tensor, Tensor]:
    """Sources (B, S, C), padding (B, S) and positions (B, S, C) of all levels joined."""
    source = torch.cat([s.flatten(2).transpose(1, 2) for s in features.sources], dim=1)
    padding = torch.cat([p.flatten(1) for p in features.padding], dim=1)
    positions = torch.cat([p.flatten(2).transpose(1, 2) for p in features.positions], dim=1)
    return source, padding, positions.to(source.dtype)


def valid_ratios(padding: Sequence[Tensor]) -> Tensor:
    """(B, levels, 2): valid width and height of each (B, H, W) map as fractions of it."""
    ratios = [
        torch.stack(((~p[:, 0, :]).float().mean(-1), (~p[:, :, 0]).float().mean(-1)), dim=-1) for p in padding
    ]
    return torch.stack(ratios, dim=1)


class FeedForward(nn.Module):
    """Mixin: the feed-forward block and the residual norms of a post-norm layer."""

    linear1: nn.Linear
    linear2: nn.Linear
    norm1: nn.LayerNorm
    norm2: nn.LayerNorm
    norm3: nn.LayerNorm

    def add_feed_forward(self, dim: int, ffn_dim: int, dropout: float, num_norms: int) -> None:
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.dropout = nn.Dropout(dropout)
        for index in range(1, num_norms + 1):
            setattr(self, f"norm{index}", nn.LayerNorm(dim))

    def feed_forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C), without the residual."""
        return self.dropout(self.linear2(self.dropout(F.relu(self.linear1(x)))))


class EncoderLayer(FeedForward):
    """Post-norm self-attention layer; positions are added to queries and keys alone."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.add_feed_forward(dim, ffn_dim, dropout, num_norms=2)

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        q = x + positions
        mixed = self.self_attn(q, q, x, key_padding_mask=padding, need_weights=False)[0]
        x = self.norm1(x + self.dropout(mixed))
        return self.norm2(x + self.feed_forward(x))


class Encoder(nn.Module):
    """A stack of :class:`EncoderLayer`."""

    def __init__(self, num_layers: int, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(dim, num_heads, ffn_dim, dropout) for _ in range(num_layers))

    def forward(self, x: Tensor, positions: Tensor, padding: Tensor | None) -> Tensor:
        for layer in self.layers:
            x = layer(x, positions, padding)
        return x


class VanillaDecoderLayer(FeedForward):
    """Post-norm DETR decoder layer (DETR, figure 10)."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.multihead_attn = nn.MultiheadAttention(dim, num_heads, dropout=dropout, batch_first=True)
        self.add_feed_forward(dim, ffn_dim, dropout, num_norms=3)

    def forward(self, x: Tensor, query_pos: Tensor, encoded: Encoded, padding: Tensor | None) -> Tensor:
        q = x + query_pos
        x = self.norm1(x + self.dropout(self.self_attn(q, q, x, need_weights=False)[0]))
        mixed = self.multihead_attn(
            x + query_pos,
            encoded.memory + encoded.positions,
            encoded.memory,
            key_padding_mask=padding,
            need_weights=False,
        )[0]
        x = self.norm2(x + self.dropout(mixed))
        return self.norm3(x + self.feed_forward(x))


class VanillaDecoder(nn.Module):
    """Decoder layers, each output normalised by one shared norm."""

    def __init__(self, num_layers: int, dim: int, num_heads: int, ffn_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            VanillaDecoderLayer(dim, num_heads, ffn_dim, dropout) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, query_pos: Tensor, encoded: Encoded) -> Tensor:
        padding = encoded.key_padding
        x, outputs = torch.zeros_like(query_pos), []
        for layer in self.layers:
            x = layer(x, query_pos, encoded, padding)
            outputs.append(self.norm(x))
        return torch.stack(outputs)


def encode_single_level(encoder: Encoder, features: FeatureMaps) -> Encoded:
    """Run the DETR encoder on the one level of ``features``.

    Raises:
        ValueError: there is more than one level.
    """
    if len(features.sources) != 1:
        raise ValueError(
            f"MODEL.SIAMESE_DETR.IN_FEATURES: found {len(features.sources)} levels, "
            "expected 1 for the vanilla and the conditional transformer"
        )
    source, padding, positions = flatten_levels(features)
    memory = encoder(source, positions, padding if features.padded else None)
    ratios = valid_ratios(features.padding)
    return Encoded(memory, padding, positions, features.shapes, ratios, features.padded)


def init_xavier(module: nn.Module) -> None:
    """Xavier-uniform for every parameter of two or more dimensions."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


class VanillaTransformer(nn.Module):
    """DETR's transformer (Carion et al., ECCV 2020).

    Args:
        dim: channels.
        num_heads: attention heads.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        ffn_dim: width of the feed-forward blocks.
        dropout: dropout of attention, residuals and feed-forward blocks.
    """

    has_reference = False

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        encoder_layers: int,
        decoder_layers: int,
        ffn_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_decoder_layers = decoder_layers
        self.encoder = Encoder(encoder_layers, dim, num_heads, ffn_dim, dropout)
        self.decoder = VanillaDecoder(decoder_layers, dim, num_heads, ffn_dim, dropout)
        init_xavier(self)

    def encode(self, features: FeatureMaps) -> Encoded:
        """Encode one level of features."""
        return encode_single_level(self.encoder, features)

    def decode(
        self, queries: Tensor, encoded: Encoded, box_heads: nn.ModuleList | None = None
    ) -> TransformerOutput:
        """Decode positional queries (B, Q, C) whose content starts at zero; ``box_heads`` has no use here."""
        return TransformerOutput(self.decoder(queries, encoded), None)
