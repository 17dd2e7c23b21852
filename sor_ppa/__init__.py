"""Salient object ranking as a detectron2 plugin.

Importing this package registers its models and datasets with detectron2.
"""

from . import backbone, centermask, data, mask_rcnn, siamese_detr
from .config import add_sor_config

__version__ = "0.1.0"

__all__ = ["__version__", "add_sor_config", "backbone", "centermask", "data", "mask_rcnn", "siamese_detr"]
