"""Res2Net-50 v1b 26w x 4s with the dilations of InSPyReNet.

``timm`` has this network as ``res2net50d``, but not with dilation inside a network of stride 32 (2 in the
third stage; 4, 8 and 16 in the blocks of the fourth), so it is written here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Res2Net50", "Res2NetBlock"]

BASE_WIDTH = 26
SCALE = 4
EXPANSION = 4


class Res2NetBlock(nn.Module):
    """A bottleneck whose 3x3 convolution is a hierarchy over four groups of channels (Res2Net, fig. 2).

    Args:
        in_channels: channels in.
        planes: base channels; the block returns four times as many.
        stride: of the 3x3 convolutions and of the shortcut.
        dilation: of the 3x3 convolutions.
        first: the first block of a stage: groups are convolved independently, and the shortcut pools and
            projects.
    """

    conv_norm_pairs = (
        ("conv1", "bn1"),
        ("conv3", "bn3"),
        *((f"convs.{group}", f"bns.{group}") for group in range(SCALE - 1)),
    )

    def __init__(
        self, in_channels: int, planes: int, *, stride: int = 1, dilation: int = 1, first: bool = False
    ) -> None:
        super().__init__()
        width = planes * BASE_WIDTH // 64
        out_channels = planes * EXPANSION
        self.width = width
        self.first = first
        self.conv1 = nn.Conv2d(in_channels, width * SCALE, 1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(width * SCALE)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, width, 3, stride=stride, dilation=dilation, padding=dilation, bias=False)
            for _ in range(SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(SCALE - 1))
        self.conv3 = nn.Conv2d(width * SCALE, out_channels, 1, bias=False)
        self.bn3: nn.Module = nn.BatchNorm2d(out_channels)
        self.pool = nn.AvgPool2d(3, stride=stride, padding=1)
        self.downsample: nn.Sequential | None = None
        if first:
            self.downsample = nn.Sequential(
                nn.AvgPool2d(stride, stride=stride, ceil_mode=True, count_include_pad=False),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, 4 * planes, ceil(H / stride), ceil(W / stride))."""
        hidden = F.relu_(self.bn1(self.conv1(x)))
        *groups, last = hidden.split(self.width, dim=1)
        outputs: list[Tensor] = []
        for group, conv, norm in zip(groups, self.convs, self.bns, strict=True):
            if outputs and not self.first:
                group = group + outputs[-1]
            outputs.append(F.relu_(norm(conv(group))))
        outputs.append(self.pool(last) if self.first else last)
        out = self.bn3(self.conv3(torch.cat(outputs, 1)))
        if self.downsample is not None:
            x = self.downsample(x)
        return F.relu_(out.add_(x))


class Res2Net50(nn.Module):
    """The encoder: five feature maps of 64, 256, 512, 1024 and 2048 channels, strides 4, 4, 8, 16, 32."""

    out_channels = (64, 256, 512, 1024, 2048)
    conv_norm_pairs = (("conv1.6", "bn1"),)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
        )
        self.bn1: nn.Module = nn.BatchNorm2d(64)
        self.layer1 = _stage(64, 64, 1, (1, 1, 1))
        self.layer2 = _stage(256, 128, 2, (1, 1, 1, 1))
        self.layer3 = _stage(512, 256, 2, (2, 2, 2, 2, 2, 2))
        self.layer4 = _stage(1024, 512, 2, (4, 8, 16))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the five feature maps, finest first."""
        x = F.relu_(self.bn1(self.conv1(x)))
        features = [F.max_pool2d(x, 3, stride=2, padding=1)]
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            features.append(stage(features[-1]))
        return features


def _stage(in_channels: int, planes: int, stride: int, dilations: Sequence[int]) -> nn.Sequential:
    blocks = [Res2NetBlock(in_channels, planes, stride=stride, dilation=dilations[0], first=True)]
    blocks += [Res2NetBlock(planes * EXPANSION, planes, dilation=dilation) for dilation in dilations[1:]]
    return nn.Sequential(*blocks)
