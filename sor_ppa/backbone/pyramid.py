"""Feature pyramids on any backbone, registered under the names that the published configurations use."""

from __future__ import annotations

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, Backbone, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from fvcore.nn import weight_init
from torch import Tensor, nn

from .mobilenet import MobileNetV2
from .vovnet import VoVNet

__all__ = ["LastLevelP6", "build_fpn", "build_top_block"]


class LastLevelP6(nn.Module):
    """One extra level, a stride-two convolution on p5 (``MODEL.FCOS.TOP_LEVELS: 1``)."""

    def __init__(self, in_channels: int, out_channels: int, in_feature: str = "p5") -> None:
        super().__init__()
        self.num_levels = 1
        self.in_feature = in_feature
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, 2, 1)
        weight_init.c2_xavier_fill(self.p6)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.p6(x)]


def build_fpn(cfg: CfgNode, bottom_up: Backbone, top_block: nn.Module | None) -> FPN:
    """Build the pyramid of ``MODEL.FPN`` on any backbone."""
    options = cfg.MODEL.FPN
    return FPN(
        bottom_up, options.IN_FEATURES, options.OUT_CHANNELS, options.NORM, top_block, options.FUSE_TYPE
    )


def build_top_block(cfg: CfgNode) -> nn.Module | None:
    """Build the ``MODEL.FCOS.TOP_LEVELS`` levels above p5, which are computed from p5."""
    kind = {2: LastLevelP6P7, 1: LastLevelP6, 0: None}[cfg.MODEL.FCOS.TOP_LEVELS]
    return kind and kind(cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.OUT_CHANNELS, "p5")


def _resnet_or_mobilenet(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    return (MobileNetV2 if cfg.MODEL.MOBILENET else build_resnet_backbone)(cfg, input_shape)


def _max_pool(cfg: CfgNode) -> nn.Module:
    return LastLevelMaxPool()


def _register_backbone(name: str, backbone: Callable, top_block: Callable | None = None) -> None:
    """Register a backbone alone, or with a pyramid and the levels above it."""

    def build(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
        bottom_up = backbone(cfg, input_shape)
        return bottom_up if top_block is None else build_fpn(cfg, bottom_up, top_block(cfg))

    build.__name__ = build.__qualname__ = name
    BACKBONE_REGISTRY.register(build)


_register_backbone("build_vovnet_backbone", VoVNet)
_register_backbone("build_mnv2_backbone", MobileNetV2)
# the pyramid of Mask R-CNN, p2 to p6
_register_backbone("build_vovnet_fpn_backbone", VoVNet, _max_pool)
_register_backbone("build_mobilenetv2_fpn_backbone", MobileNetV2, _max_pool)
# the pyramid of FCOS, p3 to p7
_register_backbone("build_fcos_vovnet_fpn_backbone", VoVNet, build_top_block)
_register_backbone("build_fcos_mobilenetv2_fpn_backbone", MobileNetV2, build_top_block)
_register_backbone("build_fcos_resnet_fpn_backbone", _resnet_or_mobilenet, build_top_block)
