"""Layers and tensor functions that several models share."""

from .deformable_conv import DeformableConv2d
from .distributed import gathered, is_split, local_part, mean_over_processes, split_like
from .iou_loss import distance_iou_loss
from .roi_pooler import PyramidROIPooler, assign_levels_by_area, assign_levels_by_ratio

__all__ = [
    "DeformableConv2d",
    "PyramidROIPooler",
    "assign_levels_by_area",
    "assign_levels_by_ratio",
    "distance_iou_loss",
    "gathered",
    "is_split",
    "local_part",
    "mean_over_processes",
    "split_like",
]
