"""Convolution blocks and axis attention of InSPyReNet, with the published parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["AxisAttention", "ConvBlock", "resize"]


def resize(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Resize bilinearly without antialiasing; return the tensor itself if the size is right.

    Args:
        x: (B, C, h, w).
        size: target (H, W) in pixels.
        align_corners: as in :func:`torch.nn.functional.interpolate`.
    """
    if not torch.compiler.is_exporting() and tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


class ConvBlock(nn.Module):
    """Convolution without bias that keeps the size, BatchNorm, ReLU.

    Args:
        in_channels, out_channels: of input and output.
        kernel_size: odd side, or (height, width).
        dilation: of the kernel.
        norm: add BatchNorm.
        relu: add ReLU.
    """

    conv_norm_pairs = (("conv", "bn"),)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        dilation: int = 1,
        norm: bool = True,
        relu: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding="same", dilation=dilation, bias=False
        )
        nn.init.kaiming_normal_(self.conv.weight)
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        return self.finish(self.conv(x))

    def finish(self, x: Tensor) -> Tensor:
        """Apply BatchNorm and ReLU to the output of the convolution."""
        x = self.bn(x)
        return F.relu_(x) if self.relu else x


class AxisAttention(nn.Module):
    """Self-attention along one axis (PAA: "parallel axial attention", InSPyReNet section 3.1).

    The published code groups the elements of a feature map by their order in memory, not by row or column, so
    both axes give the same groups on a square map. Trained weights depend on it.

    Args:
        channels: C of the feature map; queries and keys have C // 8.
        axis: "h" or "w": the side of the attention matrix is the height or the width.
    """

    def __init__(self, channels: int, axis: str) -> None:
        super().__init__()
        self.dim = {"h": 2, "w": 3}[axis]
        self.query_conv = ConvBlock(channels, channels // 8, 1)
        self.key_conv = ConvBlock(channels, channels // 8, 1)
        self.value_conv = ConvBlock(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same: gamma * attention(x) + x."""
        query, key, value = (
            block(x).reshape(x.shape[0], -1, x.shape[self.dim])
            for block in (self.query_conv, self.key_conv, self.value_conv)
        )
        attention = torch.bmm(query.transpose(1, 2), key).softmax(-1)  # (B, side, side)
        return torch.addcmul(x, self.gamma, torch.bmm(value, attention.transpose(1, 2)).reshape(x.shape))
