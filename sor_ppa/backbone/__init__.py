"""Backbones and feature pyramids, in detectron2's registry."""

from .mobilenet import MobileNetV2
from .pyramid import build_fpn, build_top_block
from .swin_backbone import SwinBackbone
from .vovnet import VoVNet

__all__ = ["MobileNetV2", "SwinBackbone", "VoVNet", "build_fpn", "build_top_block"]
