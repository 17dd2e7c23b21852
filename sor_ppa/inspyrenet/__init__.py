"""InSPyReNet (ACCV 2022): salient object detection at any resolution, and its use for ranking."""

from .mapper import SODDatasetMapper
from .meta_arch import InSPyReNet

__all__ = ["InSPyReNet", "SODDatasetMapper"]
