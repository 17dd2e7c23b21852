"""Salience of every token and the hierarchical selection of the tokens to refine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.levels import Levels
from ..layers.tracing import first, opaque


@dataclass(frozen=True)
class SalienceSelection:
    """Result of the filter. N is the number of kept tokens, the same for all images of a batch."""

    #: per level ``(B, 1, h, w)`` raw logits, finest first.
    logits: list[Tensor]
    #: ``(B, S)`` raw logits; padded tokens have the lowest one of the batch.
    token_logits: Tensor
    #: ``(B, N)`` int64 flat indices of the kept tokens, most salient first.
    indices: Tensor
    #: per entry of ``Levels.valid_sizes``: its own number of kept tokens; the rest of the N are not refined.
    focus: tuple[int, ...]
    #: per encoder layer: it refines this many of the N, the first ones.
    layer_counts: tuple[int, ...]


def _share(count: int, ratio: float) -> int:
    """Return ``int(count * ratio)`` in exact arithmetic, which also works on the symbolic sizes of an export.

    For ratios in steps of 0.05 and up to two million tokens, it equals the published product in float32.
    """
    exact = Fraction(ratio).limit_denominator(1000)
    return count * exact.numerator // exact.denominator


def level_budget(levels: Levels, ratios: Sequence[float]) -> list[list[int]]:
    """Return the tokens to keep per entry of ``levels.valid_sizes`` and level."""
    return [
        [_share(rows * columns, ratio) for (rows, columns), ratio in zip(sizes, ratios, strict=True)]
        for sizes in levels.valid_sizes
    ]


def layer_budget(tokens: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Return the tokens to refine per encoder layer, at least one."""
    return tuple(opaque(torch.sym_max(1, _share(tokens, ratio))) for ratio in ratios)


class SaliencePredictor(nn.Module):
    """Predicts one logit per token from its features and their mean over the map."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.layer1 = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU())
        self.layer2 = nn.Sequential(
            nn.Linear(dim, dim // 2),  # forward applies its two halves separately
            nn.GELU(),
            nn.Linear(dim // 2, dim // 4),
            nn.GELU(),
            nn.Linear(dim // 4, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map the tokens ``(B, n, C)`` of one level to logits ``(B, n, 1)``."""
        local, common = self.layer1(tokens).split(self.dim // 2, dim=-1)
        mixing = cast(nn.Linear, self.layer2[0])
        local_weight, common_weight = mixing.weight.split(self.dim // 2, dim=1)
        offset = F.linear(common.mean(dim=1, keepdim=True), common_weight, mixing.bias)
        hidden = F.linear(local, local_weight) + offset
        for layer in list(self.layer2)[1:]:
            hidden = layer(hidden)
        return hidden


class SalienceFilter(nn.Module):
    """Scores tokens from the coarsest map to the finest and keeps the best (Salience-DETR, 3.2, 3.3).

    Args:
        dim: width of the tokens.
        num_levels: feature maps L.
        level_ratios: share of the tokens kept per level, finest first.
        layer_ratios: share of the kept tokens refined per encoder layer, falling.
    """

    def __init__(
        self, dim: int, num_levels: int, level_ratios: Sequence[float], layer_ratios: Sequence[float]
    ) -> None:
        super().__init__()
        assert len(level_ratios) == num_levels, "a ratio for every level"
        assert all(0 < ratio <= 1 for ratio in (*level_ratios, *layer_ratios)), "ratios in (0, 1]"
        self.level_ratios = tuple(level_ratios)
        self.layer_ratios = tuple(layer_ratios)
        self.predictor = SaliencePredictor(dim)
        self.alpha = nn.Parameter(torch.empty(num_levels - 1).uniform_(-0.3, 0.3))

    def score(self, tokens: Tensor, levels: Levels) -> list[Tensor]:
        """Return raw logits of all tokens ``(B, S, C)``: per level ``(B, 1, h, w)``, finest first."""
        parts = tokens.split(levels.sizes, dim=1)
        logits: list[Tensor] = []
        for level in range(len(parts) - 1, -1, -1):
            part = parts[level]
            if logits:
                coarser = F.interpolate(
                    logits[0], size=levels.shapes[level], mode="bilinear", align_corners=True
                )
                part = part + part * coarser.flatten(2).transpose(1, 2) * self.alpha[level]
            logits.insert(0, self.predictor(part).transpose(1, 2).unflatten(2, levels.shapes[level]))
        return logits

    def forward(self, tokens: Tensor, levels: Levels) -> SalienceSelection:
        """Score and select tokens ``(B, S, C)``, in float32 also under autocast."""
        with torch.autocast(tokens.device.type, enabled=False):
            logits = self.score(tokens, levels)
        with torch.no_grad():
            budget = level_budget(levels, self.level_ratios)
            kept_logits, kept = [], []
            for level, (level_logits, start) in enumerate(zip(logits, levels.starts, strict=True)):
                flat = level_logits.flatten(1)
                if levels.padding is not None:
                    flat = flat.masked_fill(levels.paddings[level].flatten(1), flat.min())
                # exporters and devices agree on the order of equal logits in a stable sort only
                best, index = flat.sort(dim=1, descending=True, stable=True)
                count = opaque(max(counts[level] for counts in budget))
                kept_logits.append(first(best, count))
                kept.append(first(index, count) + start)
            order = torch.cat(kept_logits, dim=1).sort(dim=1, descending=True, stable=True).indices
            indices = torch.cat(kept, dim=1).gather(1, order)
            token_logits = torch.cat([level_logits.flatten(1) for level_logits in logits], dim=1)
            if levels.padding is not None:
                token_logits = token_logits.masked_fill(levels.padding, token_logits.min())
        return SalienceSelection(
            logits=logits,
            token_logits=token_logits,
            indices=indices,
            focus=tuple(sum(counts) for counts in budget),
            layer_counts=layer_budget(indices.shape[1], self.layer_ratios),
        )
