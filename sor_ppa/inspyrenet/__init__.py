"""InSPyReNet (ACCV 2022): salient object detection at any resolution, and what ranking makes of it."""

from .config import add_inspyrenet_config
from .mapper import SODDatasetMapper
from .meta_arch import InSPyReNet
from .solver import build_inspyrenet_lr_scheduler, build_inspyrenet_optimizer

__all__ = [
    "InSPyReNet",
    "SODDatasetMapper",
    "add_inspyrenet_config",
    "build_inspyrenet_lr_scheduler",
    "build_inspyrenet_optimizer",
]
