"""ROI pooling from a feature pyramid, with the level rules of FPN and of CenterMask."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence

import torch
from detectron2.layers import ROIAlign
from torch import Tensor, nn
from torchvision.ops import RoIPool

from .precision import at_least_float32

__all__ = ["PyramidROIPooler", "assign_levels_by_area", "assign_levels_by_ratio", "pool_by_level"]


def assign_levels_by_ratio(box_areas: Tensor, image_areas: Tensor, min_level: int, max_level: int) -> Tensor:
    """The adaptive rule of CenterMask, eq. (2): the larger a box in its image, the coarser the level.

    Args:
        box_areas: (M,) areas in pixels; a box without area goes to the finest level.
        image_areas: (M,) area of each box's own image, in the same pixels.
        min_level, max_level: finest and coarsest level (log2 of the stride).

    Returns:
        (M,) int64 offsets from ``min_level``.
    """
    level = torch.ceil(max_level - torch.log2(image_areas / box_areas + sys.float_info.epsilon))
    return level.clamp(min=min_level, max=max_level).to(torch.int64) - min_level


def assign_levels_by_area(
    box_areas: Tensor, min_level: int, max_level: int, canonical_size: float = 224, canonical_level: int = 4
) -> Tensor:
    """The rule of FPN, eq. (1), with a canonical box of ``canonical_size`` pixels at ``canonical_level``.

    Args:
        box_areas: (M,) areas in pixels.
        min_level, max_level: finest and coarsest level (log2 of the stride).
        canonical_size: side in pixels of a box that belongs on ``canonical_level``.
        canonical_level: see above.

    Returns:
        (M,) int64 offsets from ``min_level``.
    """
    sides = torch.sqrt(box_areas)
    level = torch.floor(canonical_level + torch.log2(sides / canonical_size + sys.float_info.epsilon))
    return level.clamp(min=min_level, max=max_level).to(torch.int64) - min_level


class PyramidROIPooler(nn.Module):
    """Pool boxes of a batch from the pyramid level that each belongs to.

    Args:
        resolution: side of the pooled square.
        strides: of the levels, finest first; consecutive powers of two.
        sampling_ratio: samples per bin and side (0: adaptive).
        pooler_type: "ROIAlignV2" (aligned by half a pixel), "ROIAlign" or "ROIPool".
        criterion: "ratio" (CenterMask) or "area" (FPN).
    """

    def __init__(
        self, resolution: int, strides: Sequence[int], sampling_ratio: int, pooler_type: str, criterion: str
    ) -> None:
        super().__init__()
        levels = [round(math.log2(s)) for s in strides]
        expected = [2**level for level in range(levels[0], levels[-1] + 1)]
        assert list(strides) == expected, f"expected consecutive powers of two as strides, found {strides}"
        assert criterion in ("ratio", "area")
        assert pooler_type in ("ROIAlign", "ROIAlignV2", "ROIPool")
        self.resolution = resolution
        self.criterion = criterion
        self.min_level, self.max_level = levels[0], levels[-1]
        if pooler_type == "ROIPool":
            poolers = [RoIPool(resolution, spatial_scale=1.0 / s) for s in strides]
        else:
            aligned = pooler_type == "ROIAlignV2"
            poolers = [ROIAlign(resolution, 1.0 / s, sampling_ratio, aligned=aligned) for s in strides]
        self.level_poolers = nn.ModuleList(poolers)

    def assign(self, boxes: Tensor, image_areas: Tensor) -> Tensor:
        """The level offset (M,) of boxes (M, 4), given the area of each box's image (M,)."""
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        if self.criterion == "ratio":
            return assign_levels_by_ratio(areas, image_areas, self.min_level, self.max_level)
        return assign_levels_by_area(areas, self.min_level, self.max_level)

    def forward(
        self,
        pyramids: Sequence[Sequence[Tensor]],
        boxes: Sequence[Tensor],
        image_sizes: Sequence[tuple[int, int]],
    ) -> list[Tensor]:
        """Pool the same boxes from one or more pyramids.

        Args:
            pyramids: each a list of (B, C, H_l, W_l), finest level first; C may differ between pyramids.
            boxes: per image (N_i, 4) XYXY in pixels of the network input, not necessarily clipped.
            image_sizes: per image (height, width) without padding.

        Returns:
            One (sum N_i, C, resolution, resolution) tensor per pyramid, images in order. Under autocast it is
            float32: detectron2 rounds boxes to the type of the features, in float16 to quarters of a pixel.
        """
        counts = torch.tensor([len(b) for b in boxes], device=boxes[0].device)
        flat = torch.cat(list(boxes))
        index = torch.repeat_interleave(torch.arange(len(boxes), device=flat.device), counts)
        areas = flat.new_tensor([float(h * w) for h, w in image_sizes])
        return self.pool(pyramids, flat, index, areas)

    def pool(
        self, pyramids: Sequence[Sequence[Tensor]], boxes: Tensor, image_index: Tensor, image_areas: Tensor
    ) -> list[Tensor]:
        """Pool boxes of all images on one axis; the rest is as in :meth:`forward`.

        Args:
            pyramids: see :meth:`forward`.
            boxes: (N, 4) XYXY in pixels of the network input.
            image_index: (N,) int64 image of each box; -1 stands for any.
            image_areas: (B,) area of each image in pixels, without padding.
        """
        pyramids = [[at_least_float32(feature) for feature in pyramid] for pyramid in pyramids]
        rois = torch.cat([image_index.clamp(min=0)[:, None].to(boxes.dtype), boxes], dim=1)
        if len(self.level_poolers) == 1:
            return [self.level_poolers[0](pyramid[0], rois) for pyramid in pyramids]
        levels = self.assign(boxes, image_areas[image_index])
        return [pool_by_level(self.level_poolers, pyramid, rois, levels) for pyramid in pyramids]


def pool_by_level(
    poolers: Iterable[nn.Module], pyramid: Sequence[Tensor], rois: Tensor, levels: Tensor
) -> Tensor:
    """Pool each box from its level; return (M, C, R, R).

    Args:
        poolers: of each level.
        pyramid: (B, C, H_l, W_l) of each level.
        rois: (M, 5): image, then XYXY in pixels of the network input.
        levels: (M,) int64.
    """
    chosen = [torch.nonzero(levels == level).squeeze(1) for level in range(len(pyramid))]
    # Pooled level by level, then put back into the order of the boxes by one gather. torch.export knows the
    # length of this order; keys without ties give the same order in every runtime.
    number = levels.shape[0]
    by_level = levels * number + torch.arange(number, device=levels.device)
    order = torch.argsort(torch.argsort(by_level))
    parts = [
        pooler(feature, rois[rows]) for feature, rows, pooler in zip(pyramid, chosen, poolers, strict=True)
    ]
    return torch.cat(parts)[order]
