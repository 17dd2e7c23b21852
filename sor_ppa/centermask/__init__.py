"""CenterMask (Lee and Park, CVPR 2020): FCOS proposals, adaptive ROI pooling, masks, mask IoU, ranks."""

from .fcos import FCOS
from .mask_head import SpatialAttentionMaskHead
from .maskiou_head import MaskIoUHead
from .meta_arch import SalientObjectRanker
from .roi_heads import CenterROIHeads

__all__ = ["FCOS", "CenterROIHeads", "MaskIoUHead", "SalientObjectRanker", "SpatialAttentionMaskHead"]
