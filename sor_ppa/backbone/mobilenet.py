"""MobileNetV2 (Sandler et al., CVPR 2018) as CenterMask2 uses it; parameter names as published."""

from __future__ import annotations

from collections.abc import Sequence

from detectron2.config import CfgNode, configurable
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

__all__ = ["MobileNetV2"]

# expansion, channels, blocks, stride of the first block
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# index of the layer that outputs each feature map
_TAPS = {"res2": 3, "res3": 6, "res4": 13, "res5": 17}
_CHANNELS = {"res2": 24, "res3": 32, "res4": 96, "res5": 320}
_STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}


def _conv(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return [conv, FrozenBatchNorm2d(channels)]


class InvertedResidual(nn.Module):
    """Expand, filter depthwise, project; with a shortcut where the shape stays."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == channels
        width = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [*_conv(in_channels, width, 1), nn.ReLU6(inplace=True)]
        layers += [*_conv(width, width, 3, stride, groups=width), nn.ReLU6(inplace=True)]
        layers += _conv(width, channels, 1)
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(Backbone):
    """MobileNetV2 with frozen statistics.

    Args:
        out_features: which of "res2" ... "res5" to return.
        freeze_at: number of layers to freeze, of 18, counted from the input.
    """

    @configurable
    def __init__(self, *, out_features: Sequence[str], freeze_at: int = 0) -> None:
        super().__init__()
        self._out_features = list(out_features)
        self._out_feature_channels, self._out_feature_strides = _CHANNELS, _STRIDES
        layers: list[nn.Module] = [nn.Sequential(*_conv(3, 32, 3, 2), nn.ReLU6(inplace=True))]
        width = 32
        for expansion, channels, blocks, stride in _STAGES:
            for i in range(blocks):
                layers.append(InvertedResidual(width, channels, stride if i == 0 else 1, expansion))
                width = channels
        self.features = nn.ModuleList(layers)
        for layer in self.features[: max(freeze_at, 0)]:
            layer.requires_grad_(False)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        del input_shape
        return {"out_features": cfg.MODEL.RESNETS.OUT_FEATURES, "freeze_at": cfg.MODEL.BACKBONE.FREEZE_AT}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return features of images (B, 3, H, W): name -> (B, channels, H / stride, W / stride)."""
        features = {}
        names = {index: name for name, index in _TAPS.items()}
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in names:
                features[names[i]] = x
        return {name: features[name] for name in self._out_features}
