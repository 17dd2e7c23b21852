"""Feature pyramids, registered under the names that the published configurations use."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool

from .mobilenet import MobileNetV2
from .pyramid import build_fpn, build_top_block
from .vovnet import VoVNet

__all__ = [
    "build_fcos_resnet_fpn_backbone",
    "build_fcos_vovnet_fpn_backbone",
    "build_vovnet_backbone",
    "build_vovnet_fpn_backbone",
]


@BACKBONE_REGISTRY.register()
def build_vovnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VoVNet:
    """VoVNetV2 alone."""
    return VoVNet(cfg, input_shape)


@BACKBONE_REGISTRY.register()
def build_vovnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """VoVNetV2 with the pyramid of Mask R-CNN (p2 to p6)."""
    return build_fpn(cfg, VoVNet(cfg, input_shape), LastLevelMaxPool())


@BACKBONE_REGISTRY.register()
def build_fcos_vovnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """VoVNetV2 with the pyramid of FCOS (p3 to p7)."""
    return build_fpn(cfg, VoVNet(cfg, input_shape), build_top_block(cfg))


@BACKBONE_REGISTRY.register()
def build_fcos_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """A ResNet, or MobileNetV2 if ``MODEL.MOBILENET``, with the pyramid of FCOS (p3 to p7)."""
    if cfg.MODEL.MOBILENET:
        return build_fpn(cfg, MobileNetV2(cfg, input_shape), build_top_block(cfg))
    return build_fpn(cfg, build_resnet_backbone(cfg, input_shape), build_top_block(cfg))
