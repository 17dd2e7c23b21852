"""Backbones and feature pyramids, in detectron2's registry."""

from . import fpn, mobilenet
from .mobilenet import MobileNetV2
from .vovnet import VoVNet

__all__ = ["MobileNetV2", "VoVNet", "fpn", "mobilenet"]
