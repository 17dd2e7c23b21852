"""Siamese DETR (CVPR 2023): pre-training without labels, and the detectors that start from it."""

from .detector import DETRDetector
from .pretraining import SiameseDETR
from .ranking_detr import RankingDETR

__all__ = ["DETRDetector", "RankingDETR", "SiameseDETR"]
