"""Salience-DETR (Hou et al., CVPR 2024) as a detectron2 meta-architecture."""

from .config import add_salience_detr_config
from .detector import SalienceDETR

__all__ = ["SalienceDETR", "add_salience_detr_config"]
