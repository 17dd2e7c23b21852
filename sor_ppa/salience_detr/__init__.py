"""Salience-DETR (Hou et al., CVPR 2024) as a detectron2 meta-architecture."""

from . import backbones
from .detector import SalienceDETR
from .ranker import RankingSalienceDETR

__all__ = ["RankingSalienceDETR", "SalienceDETR", "backbones"]
