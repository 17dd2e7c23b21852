"""Swin Transformer as a detectron2 backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import Backbone
from torch import Tensor

if TYPE_CHECKING:
    from .swin import Swin

__all__ = ["SwinBackbone", "build_swin_backbone"]


class SwinBackbone(Backbone):
    """Swin Transformer as a detectron2 backbone with the maps "res2" (stride 4) to "res5" (stride 32).

    Args:
        swin: with four stages.
        out_features: maps to return.
        freeze_at: 1 freezes the patch embedding, each number more the next stage; 0: nothing.
    """

    def __init__(self, swin: Swin, out_features: Sequence[str], freeze_at: int = 0) -> None:
        super().__init__()
        self.swin = swin
        self._out_features = list(out_features)
        names = ("res2", "res3", "res4", "res5")
        self._out_feature_channels = dict(zip(names, swin.out_channels[1:], strict=True))
        self._out_feature_strides = dict(zip(names, (4, 8, 16, 32), strict=True))
        for stage, name in enumerate(names):
            if name not in self._out_features:
                swin.get_submodule(f"norm{stage}").requires_grad_(False)
        for module in (swin.patch_embed, *swin.layers)[: max(freeze_at, 0)]:
            module.requires_grad_(False)

    @property
    def size_divisibility(self) -> int:
        return 32

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return maps of images (B, 3, H, W): name -> (B, channels, H / stride, W / stride)."""
        maps = dict(zip(self._out_feature_strides, self.swin(x)[1:], strict=True))
        return {name: maps[name] for name in self._out_features}


@BACKBONE_REGISTRY.register()
def build_swin_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> SwinBackbone:
    """Build the backbone that ``MODEL.SWIN`` describes (published name: ``D2SwinTransformer``)."""
    from .swin import Swin  # timm takes most of a second to import

    del input_shape
    node = cfg.MODEL.SWIN
    swin = Swin(node.EMBED_DIM, node.DEPTHS, node.NUM_HEADS, node.WINDOW_SIZE, node.DROP_PATH_RATE)
    return SwinBackbone(swin, node.OUT_FEATURES, cfg.MODEL.BACKBONE.FREEZE_AT)
