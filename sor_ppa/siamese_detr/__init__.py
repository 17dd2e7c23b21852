"""Siamese DETR (CVPR 2023): pre-training without labels, and the detectors that start from it."""

from .config import add_siamese_detr_config
from .detector import DETRDetector
from .pretraining import SiameseDETR

__all__ = ["DETRDetector", "SiameseDETR", "add_siamese_detr_config"]
