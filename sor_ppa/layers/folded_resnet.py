"""detectron2's ResNet in CPU inference with its frozen normalisations folded into the kernels."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicStem, BottleneckBlock, ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from .folded_conv import FoldedConv

__all__ = ["FoldedResNet"]


class FoldedResNet:
    """Runs a ResNet of bottleneck blocks with ``FrozenBN``; the same maps up to rounding.

    Folded kernels are kept until a parameter or buffer that they come from changes.

    Args:
        backbone: the network; anything else than such a ResNet is run as it is.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self._fits = _fits(backbone)
        self._folded: defaultdict[nn.Module, FoldedConv] = defaultdict(FoldedConv)

    def __call__(self, backbone: Any, x: Tensor) -> dict[str, Tensor]:
        """The maps of ``backbone`` for images ``(B, 3, H, W)``."""
        if not self._fits or backbone.training or torch.is_grad_enabled() or x.device.type != "cpu":
            return backbone(x)
        outputs = {}
        x = F.max_pool2d(self._conv(backbone.stem.conv1, x, relu=True), 3, stride=2, padding=1)
        if "stem" in backbone._out_features:
            outputs["stem"] = x
        for name, stage in zip(backbone.stage_names, backbone.stages, strict=True):
            for block in stage:
                x = self._block(block, x)
            if name in backbone._out_features:
                outputs[name] = x
        return outputs

    def _block(self, block: Any, x: Tensor) -> Tensor:
        shortcut = x if block.shortcut is None else self._conv(block.shortcut, x)
        y = self._conv(block.conv1, x, relu=True)
        y = self._conv(block.conv2, y, relu=True)
        return self._conv(block.conv3, y).add_(shortcut).relu_()

    def _conv(self, conv: Any, x: Tensor, relu: bool = False) -> Tensor:
        return self._folded[conv](x, conv, conv.norm, relu)


def _fits(backbone: Any) -> bool:
    if type(backbone) is not ResNet or type(backbone.stem) is not BasicStem or backbone.num_classes:
        return False
    blocks = [block for stage in backbone.stages for block in stage]
    convs = [m for m in backbone.modules() if isinstance(m, nn.Conv2d)]
    plain = all(type(block) is BottleneckBlock for block in blocks)
    return plain and all(
        type(getattr(conv, "norm", None)) is FrozenBatchNorm2d
        and conv.bias is None
        and conv.dilation == (1, 1)
        for conv in convs
    )
