"""Salience-DETR (Hou et al., CVPR 2024) as a detectron2 meta-architecture."""

from . import backbones
from .config import add_salience_detr_config
from .detector import SalienceDETR
from .ranker import RankingSalienceDETR

__all__ = ["RankingSalienceDETR", "SalienceDETR", "add_salience_detr_config", "backbones"]
