"""The convolutional necks: channel mapping before the encoder, cross-level token fusion after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers.detr.levels import level_projections, project_levels


class ChannelMapper(nn.Module):
    """Projects backbone maps to one width; arguments as in ``level_projections``."""

    def __init__(self, in_channels: Sequence[int], out_channels: int, num_outs: int) -> None:
        super().__init__()
        self.convs = level_projections(in_channels, out_channels, num_outs)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Map ``(B, in_channels[i], h, w)`` to ``num_outs`` maps ``(B, out_channels, h, w)``."""
        return project_levels(self.convs, maps)


class ConvNorm(nn.Sequential):
    """Convolution without bias, BatchNorm and SiLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, activation: bool = True, **options: Any
    ) -> None:
        conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False, **options)
        nn.init.kaiming_uniform_(conv.weight, a=1)
        super().__init__(conv, nn.BatchNorm2d(out_channels), nn.SiLU() if activation else nn.Identity())


class ContextGate(nn.Module):
    """Channel gate from an attention-pooled context (GCNet, eq. 3, with a sigmoid gate)."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        self.conv_mask = nn.Conv2d(channels, 1, 1)
        squeeze = nn.Conv2d(channels, channels // reduction, 1, bias=False)
        expand = nn.Conv2d(channels // reduction, channels, 1, bias=False)
        self.se_module = nn.Sequential(squeeze, nn.ReLU(), expand, nn.Sigmoid())
        for layer in (self.conv_mask, squeeze, expand):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        attention = self.conv_mask(x).flatten(2).softmax(-1)  # (B, 1, h * w)
        tokens = x.permute(0, 2, 3, 1).flatten(1, 2)  # no copy of a channels-last map
        context = torch.bmm(attention, tokens).transpose(1, 2).unsqueeze(-1)  # (B, C, 1, 1)
        return x * self.se_module(context)


class RepVGGPluXBlock(nn.Module):
    """Grouped 3x3 and 1x1 branches, SiLU, context gate and a residual (Salience-DETR, figure 5)."""

    def __init__(self, channels: int, groups: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, 3, groups=groups, activation=False)
        self.conv2: nn.Module | None = ConvNorm(channels, channels, 1, groups=groups, activation=False)
        self.se_module = ContextGate(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(x)
        if self.conv2 is not None:
            y = y + self.conv2(x)
        return self.se_module(F.silu(y)) + x

    def reparameterize(self) -> None:
        """Merge the branches, whose normalizations are folded, into one 3x3 convolution, in place."""
        if self.conv2 is None:
            return
        conv, point = cast(nn.Conv2d, self.conv1[0]), cast(nn.Conv2d, cast(ConvNorm, self.conv2)[0])
        assert conv.bias is not None
        assert point.bias is not None
        conv.weight.add_(F.pad(point.weight, (1, 1, 1, 1)))
        conv.bias.add_(point.bias)
        self.conv2 = None


class CSPLayer(nn.Module):
    """Sum of a chain of RepVGG-pluX blocks and a 1x1 shortcut."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int = 3, groups: int = 4) -> None:
        super().__init__()
        self.conv1 = ConvNorm(in_channels, out_channels, 1)
        self.conv2 = ConvNorm(in_channels, out_channels, 1)
        self.bottlenecks = nn.Sequential(*[RepVGGPluXBlock(out_channels, groups) for _ in range(num_blocks)])

    def forward(self, x: Tensor) -> Tensor:
        return self.bottlenecks(self.conv1(x)) + self.conv2(x)


class RepVGGPluXNetwork(nn.Module):
    """Cross-level token fusion: path aggregation with RepVGG-pluX blocks (Salience-DETR, section 3.4)."""

    def __init__(self, channels: int = 256, num_levels: int = 4, groups: int = 4) -> None:
        super().__init__()
        steps = range(num_levels - 1)
        self.lateral_convs = nn.ModuleList(ConvNorm(channels, channels, 1) for _ in steps)
        self.layer_blocks = nn.ModuleList(CSPLayer(2 * channels, channels, groups=groups) for _ in steps)
        self.downsample_blocks = nn.ModuleList(ConvNorm(channels, channels, 3, stride=2) for _ in steps)
        self.pan_blocks = nn.ModuleList(CSPLayer(2 * channels, channels, groups=groups) for _ in steps)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Fuse maps ``(B, C, h, w)``, finest first; the shapes stay."""
        lateral = list(maps)
        for level in range(len(maps) - 1, 0, -1):
            lateral[level] = self.lateral_convs[level - 1](lateral[level])
            up = F.interpolate(lateral[level], size=maps[level - 1].shape[-2:], mode="nearest")
            lateral[level - 1] = self.layer_blocks[level - 1](torch.cat([up, maps[level - 1]], dim=1))
        outs = [lateral[0]]
        for level in range(1, len(maps)):
            down = self.downsample_blocks[level - 1](outs[-1])
            outs.append(self.pan_blocks[level - 1](torch.cat([down, lateral[level]], dim=1)))
        return outs
