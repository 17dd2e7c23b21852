"""Res2Net-50 v1b 26w x 4s with the dilations of InSPyReNet."""

from __future__ import annotations

from typing import Any

import timm
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Res2Net50"]


class Res2Net50(nn.Module):
    """The encoder: five feature maps of 64, 256, 512, 1024 and 2048 channels, strides 4, 4, 8, 16, 32.

    The blocks are those of ``timm``, under the names of the published network.
    """

    out_channels = (64, 256, 512, 1024, 2048)
    conv_norm_pairs = (("conv1.6", "bn1"),)

    def __init__(self) -> None:
        super().__init__()
        network: Any = timm.create_model("res2net50d", zero_init_last=False)
        self.conv1: nn.Sequential = network.conv1
        self.bn1: nn.Module = network.bn1
        self.layer1: nn.Sequential = network.layer1
        self.layer2: nn.Sequential = network.layer2
        self.layer3: nn.Sequential = network.layer3
        self.layer4: nn.Sequential = network.layer4
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            for block in stage:
                pairs = [("conv1", "bn1"), ("conv3", "bn3")]
                block.conv_norm_pairs = pairs + [(f"convs.{i}", f"bns.{i}") for i in range(len(block.convs))]
        for stage, dilations in ((network.layer3, (2,) * 6), (network.layer4, (4, 8, 16))):
            for block, dilation in zip(stage, dilations, strict=True):
                for conv in block.convs:
                    conv.dilation = conv.padding = (dilation, dilation)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the five feature maps, finest first."""
        x = F.relu_(self.bn1(self.conv1(x)))
        features = [F.max_pool2d(x, 3, stride=2, padding=1)]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features.append(stage(features[-1]))
        return features
