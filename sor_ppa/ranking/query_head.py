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
from .decode import pad_by_image
from .head import VARIANTS, ObjectInteraction, init_relu_layers, interaction_encoder
from .position import position_maps

__all__ = ["QueryRankingHead", "build_query_head", "mask_positions", "pool_in_masks"]

# usual mean and deviation of the values of mask_positions: the head reads them at the scale of features
_POSITION_SCALE = ((0.5, 0.25), (0.5, 0.25), (0.1, 0.05), (0.1, 0.05), (0.25, 0.1))
_BAND = 0.08  # width of the band around an object, as a share of the map's shorter side


def pool_in_masks(features: Tensor, masks: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the mean of features weighted by each mask; zeros for an empty mask.

    Args:
        features: (B, C, h, w).
        masks: (N, h, w) weights, N the sum of ``counts``, images in order.
        counts: objects of each image.

    Returns:
        (N, C).
    """
    weights, valid = pad_by_image(masks.flatten(1), counts)
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
    return (weights @ features.flatten(2).transpose(1, 2))[valid]


def mask_positions(masks: Tensor, counts: Sequence[int], sizes: Tensor, stride: int) -> Tensor:
    """Return where objects are and how large: mean and deviation of y and x, and the root of the area.

    Args:
        masks: (N, h, w) weights in [0, 1], N the sum of ``counts``.
        counts: objects of each image.
        sizes: (B, 2) height and width of each image in pixels.
        stride: of the masks in pixels.

    Returns:
        (N, 5): mean y, mean x, deviation of y and of x, root of the area; all as shares of the image.
    """
    maps = position_maps(sizes, (masks.shape[-2], masks.shape[-1]), stride).to(masks.dtype)
    mean, square = pool_in_masks(torch.cat([maps, maps**2], dim=1), masks, counts).split(2, dim=1)
    number = torch.tensor(counts, device=sizes.device)
    areas = sizes.prod(1).repeat_interleave(number, output_size=len(masks))
    share = masks.sum((1, 2)) * stride**2 / areas
    return torch.cat([mean, (square - mean**2).clamp(min=0).sqrt(), share.sqrt()[:, None]], dim=1)


def surroundings(masks: Tensor) -> Tensor:
    """Return the band around each mask (N, h, w), with the same weights."""
    reach = max(round(_BAND * min(masks.shape[-2:])), 1)
    grown = F.max_pool2d(masks[:, None], (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    grown = F.max_pool2d(grown, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return grown[:, 0] - masks


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
        width = query_dim + 2 * feature_dim + (len(_POSITION_SCALE) if position else 0)
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

    def describe(
        self,
        queries: Tensor,
        masks: Tensor,
        features: Tensor,
        counts: Sequence[int],
        sizes: Tensor,
        stride: int,
    ) -> Tensor:
        """Return a vector for each object, (N, object_dim). Arguments as in :meth:`forward`."""
        features = at_least_float32(features)
        masks = masks.to(features.dtype)
        with torch.autocast(features.device.type, enabled=False):  # half precision rounds positions
            parts = [queries, pool_in_masks(features, masks, counts)]
            parts.append(pool_in_masks(features, surroundings(masks), counts))
            if self.position:
                positions = mask_positions(masks, counts, sizes, stride)
                middle, scale = positions.new_tensor(_POSITION_SCALE).unbind(1)
                parts.append((positions - middle) / scale)
        x = F.relu(self.sor_fc1(torch.cat([part.to(queries.dtype) for part in parts], dim=1)))
        return F.relu(self.sor_fc2(x))

    def forward(
        self,
        queries: Tensor,
        masks: Tensor,
        features: Tensor,
        counts: Sequence[int],
        sizes: Tensor,
        stride: int,
    ) -> Tensor:
        """Return the rank logits of all objects of a batch.

        Args:
            queries: (N, C), N the sum of ``counts``.
            masks: (N, h, w) in [0, 1], 0 outside the image.
            features: (B, F, h, w) to be pooled in the masks.
            counts: objects of each image.
            sizes: (B, 2) height and width of each image in pixels.
            stride: of masks and features in pixels.

        Returns:
            (N, K) logits.
        """
        exact: AbstractContextManager = nullcontext()
        if not self.training:  # float32: rounding would reorder objects with similar logits
            queries, features = (x.to(self.sor.weight.dtype) for x in (queries, features))
            exact = torch.autocast(features.device.type, enabled=False)
        with exact:
            x = self.describe(queries, masks, features, counts, sizes, stride)
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
