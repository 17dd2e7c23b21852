"""The ranking head for objects that are queries with masks of any shape, not boxes.

Position-preserved attention (PPA, section 3.2) pools features and coordinate maps over a box. Here they are
averaged over the mask of an object, and over the band around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.precision import at_least_float32
from .head import VARIANTS, ObjectInteraction, init_relu_layers, interaction_encoder

__all__ = ["QueryRankingHead", "build_query_head", "cells_inside", "mask_positions", "pool_in_masks"]

# usual mean and deviation of the values of mask_positions: the head reads them at the scale of features
_POSITION_SCALE = ((0.5, 0.25), (0.5, 0.25), (0.1, 0.05), (0.1, 0.05), (0.25, 0.1))
_BAND = 8  # width of the band around an object, in percent of the map's shorter side
_SHIFTS = (1, 3, 9, 27, 81, 243)  # cells; bands are narrower than their sum


def pool_in_masks(features: Tensor, masks: Tensor) -> Tensor:
    """Return the mean of features (B, C, h, w) weighted by each mask (B, M, h, w); zeros for an empty mask.

    Returns:
        (B, M, C).
    """
    weights = masks.flatten(2)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
    return weights @ features.flatten(2).transpose(1, 2)


def mask_positions(masks: Tensor, sizes: Tensor, stride: int) -> Tensor:
    """Return where objects are and how large: mean and deviation of y and x, and the root of the area.

    Args:
        masks: (B, M, h, w) weights in [0, 1].
        sizes: (B, 2) height and width of each image in pixels.
        stride: of the masks in pixels.

    Returns:
        (B, M, 5): mean y, mean x, deviation of y and of x, root of the area; all as shares of the image.
    """
    area, means, deviations = masks.sum((2, 3)), [], []
    for axis, sums in enumerate((masks.sum(3), masks.sum(2))):  # of the rows, of the columns
        share = sums / area.clamp(min=1e-6)[..., None]
        center = (torch.arange(sums.shape[2], device=masks.device) + 0.5) * stride
        place = (center / sizes[:, axis, None])[:, None]
        mean = (share * place).sum(2, keepdim=True)
        means.append(mean[..., 0])
        deviations.append((share * (place - mean) ** 2).sum(2).sqrt())
    part = area * stride**2 / sizes.prod(1, keepdim=True)
    return torch.stack([*means, *deviations, part.sqrt()], dim=2)


def cells_inside(masks: Tensor, sizes: Tensor, stride: int) -> Tensor:
    """Return which cells (B, h, w) of masks (B, M, h, w) are not padding in images of sizes (B, 2)."""
    height, width = masks.shape[-2:]
    rows = torch.arange(height, device=masks.device) * stride < sizes[:, :1]
    columns = torch.arange(width, device=masks.device) * stride < sizes[:, 1:]
    return rows[:, :, None] & columns[:, None]


def surroundings(masks: Tensor) -> Tensor:
    """Return the band around each mask (B, M, h, w), with the same weights."""
    shorter = torch.sym_min(masks.shape[-2], masks.shape[-1])
    reach = torch.sym_max((_BAND * shorter + 50) // 100, 1)
    return _grow(_grow(masks, reach, 2), reach, 3) - masks


def _grow(masks: Tensor, reach: int, dim: int) -> Tensor:
    """Return the largest value within ``reach`` cells along a dimension.

    Each maximum of three shifted copies covers up to three times as much. A pooling kernel would be simpler,
    but in a graph that is exported for all sizes it cannot depend on the size.
    """
    length = masks.shape[dim]
    place, covered = torch.arange(length, device=masks.device), 0
    for most in _SHIFTS:
        shift = torch.sym_min(most, reach - covered)
        if isinstance(shift, int) and not shift:
            break
        ends = [(place - shift).clamp(min=0), (place + shift).clamp(max=length - 1)]
        before, after = (masks.index_select(dim, end) for end in ends)
        masks, covered = masks.maximum(before).maximum(after), covered + shift
    return masks


class QueryRankingHead(ObjectInteraction):
    """Compute rank logits of objects from their queries, and the features and positions of their masks.

    Args:
        query_dim: width C of the queries.
        feature_dim: channels F of the pooled features.
        num_ranks: K.
        dense_dim, object_dim: widths of the two fully connected layers.
        position: whether an object's description has its position.
        interaction: attention between the objects of an image.
        num_heads, num_layers, dropout: of the encoder.
    """

    def __init__(
        self,
        query_dim: int,
        feature_dim: int,
        *,
        num_ranks: int = 5,
        dense_dim: int = 1024,
        object_dim: int = 1024,
        position: bool = True,
        interaction: bool = True,
        num_heads: int = 4,
        num_layers: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.position, self.interaction = position, interaction
        width = query_dim + 3 * feature_dim + (len(_POSITION_SCALE) if position else 0)
        self.sor_fc1 = nn.Linear(width, dense_dim)
        self.sor_fc2 = nn.Linear(dense_dim, object_dim)
        self.sor = nn.Linear(object_dim, num_ranks)
        layers: list[nn.Module] = [self.sor_fc1, self.sor_fc2]
        if interaction:
            self.transformer_encoder = interaction_encoder(object_dim, num_heads, num_layers, dropout)
            layers += [m for m in self.transformer_encoder.modules() if type(m) is nn.Linear]
        init_relu_layers(layers)
        nn.init.normal_(self.sor.weight, std=0.01)
        nn.init.zeros_(self.sor.bias)

    def read(self, masks: Tensor, features: Tensor, sizes: Tensor, stride: int) -> Tensor:
        """Return what the head sees of masks besides their queries, (B, M, 3 F + 5) or without position 3 F.

        That is the mean of the features inside the mask, their mean around it, how far the two differ, and
        the position.

        Args:
            masks: (B, M, h, w) in [0, 1], 0 outside the image.
            features: (B, F, h, w) to be pooled in the masks.
            sizes: (B, 2) height and width of each image in pixels.
            stride: of masks and features in pixels.
        """
        features = at_least_float32(features)
        masks = masks.to(features.dtype)
        with torch.autocast(features.device.type, enabled=False):  # half precision rounds positions
            band = surroundings(masks) * cells_inside(masks, sizes, stride)[:, None]
            inside, around = (pool_in_masks(features, part) for part in (masks, band))
            parts = [inside, around, (inside - around).abs()]
            if self.position:
                positions = mask_positions(masks, sizes, stride)
                middle, scale = positions.new_tensor(_POSITION_SCALE).unbind(1)
                parts.append((positions - middle) / scale)
            return torch.cat(parts, dim=2)

    def describe(self, queries: Tensor, pooled: Tensor) -> Tensor:
        """Return a vector (N, object_dim) for each object; arguments as in :meth:`forward`."""
        x = F.relu(self.sor_fc1(torch.cat([queries, pooled.to(queries.dtype)], dim=1)))
        return F.relu(self.sor_fc2(x))

    def forward(self, queries: Tensor, pooled: Tensor, counts: Sequence[int]) -> Tensor:
        """Return the rank logits (N, K) of all objects of a batch.

        Args:
            queries: (N, C), N the sum of ``counts``.
            pooled: (N, ...) rows of :meth:`read`.
            counts: objects of each image.
        """
        exact: AbstractContextManager = nullcontext()
        if not self.training:  # float32: rounding would reorder objects with similar logits
            queries, pooled = (x.to(self.sor.weight.dtype) for x in (queries, pooled))
            exact = torch.autocast(queries.device.type, enabled=False)
        with exact:
            x = self.describe(queries, pooled)
            if self.interaction:
                x = self.interact(x, counts)
            return self.sor(x)


def build_query_head(cfg: CfgNode, query_dim: int, feature_dim: int) -> QueryRankingHead:
    """Build the head for ``MODEL.SOR``; its ``NAME`` says whether it has position and interaction.

    Args:
        cfg: with the keys of :func:`sor_ppa.add_sor_config`.
        query_dim: width of the queries.
        feature_dim: channels of the features that are pooled in masks.
    """
    options, encoder = cfg.MODEL.SOR, cfg.MODEL.SOR.TRANSFORMER
    position, interaction = VARIANTS[options.NAME]
    return QueryRankingHead(
        query_dim,
        feature_dim,
        num_ranks=options.NUM_RANKS,
        dense_dim=options.DENSE_DIM,
        object_dim=options.OBJ_DIM,
        position=position != "none",
        interaction=interaction,
        num_heads=encoder.N_HEAD,
        num_layers=encoder.LAYERS,
        dropout=encoder.DROPOUT,
    )
