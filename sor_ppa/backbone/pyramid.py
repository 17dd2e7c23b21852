"""Feature pyramids on any backbone, and the levels above them."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.modeling.backbone import FPN, Backbone
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from fvcore.nn import weight_init
from torch import Tensor, nn

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
    return FPN(
        bottom_up=bottom_up,
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top_block,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_top_block(cfg: CfgNode) -> nn.Module | None:
    """Build the ``MODEL.FCOS.TOP_LEVELS`` levels above p5, which are computed from p5."""
    channels, levels = cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FCOS.TOP_LEVELS
    if levels == 2:
        return LastLevelP6P7(channels, channels, "p5")
    if levels == 1:
        return LastLevelP6(channels, channels, "p5")
    assert levels == 0
    return None
