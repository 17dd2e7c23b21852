"""InSPyReNet (ACCV 2022): salient object detection at any resolution, and what ranking makes of it."""

from .mapper import SODDatasetMapper
from .meta_arch import InSPyReNet
from .solver import build_inspyrenet_optimizer

__all__ = [
    "InSPyReNet",
    "SODDatasetMapper",
    "build_inspyrenet_optimizer",
]
