"""Convolution blocks and axis attention of InSPyReNet, with the published parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "AxisAttention",
    "ConvBlock",
    "resize",
]


def resize(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Bilinear resize without antialiasing; the tensor itself where the size already fits.

    Args:
        x: (B, C, h, w).
        size: target (H, W) in pixels.
        align_corners: as in :func:`torch.nn.functional.interpolate`.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


class ConvBlock(nn.Module):
    """Convolution without bias that keeps the size, BatchNorm, ReLU.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: odd side, or (height, width).
        dilation: of the kernel.
        norm: follow with BatchNorm.
        relu: follow with ReLU.
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
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        nn.init.kaiming_normal_(self.conv.weight)
        self.bn = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        return self.finish(self.conv(x))

    def finish(self, x: Tensor) -> Tensor:
        """What follows the convolution: BatchNorm and ReLU, (B, out_channels, H, W) -> same."""
        x = self.bn(x)
        return F.relu_(x) if self.relu else x


class AxisAttention(nn.Module):
    """Self-attention along one axis (PAA: "parallel axial attention", InSPyReNet section 3.1).

    The published code groups the elements of a feature map by their order in memory instead of by row or
    column, so that on a square map both axes give the same grouping. Trained weights depend on it.

    Args:
        channels: C of the feature map; queries and keys have C // 8.
        axis: "h" or "w": side length of the attention matrix is the height or the width.
    """

    def __init__(self, channels: int, axis: str) -> None:
        super().__init__()
        if axis not in ("h", "w"):
            raise ValueError(f"axis must be 'h' or 'w', found {axis!r}")
        self.axis = axis
        self.query_conv = ConvBlock(channels, channels // 8, 1)
        self.key_conv = ConvBlock(channels, channels // 8, 1)
        self.value_conv = ConvBlock(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same: gamma * attention(x) + x."""
        batch, side = x.shape[0], x.shape[2 if self.axis == "h" else 3]
        query, key, value = (
            block(x).reshape(batch, -1, side) for block in (self.query_conv, self.key_conv, self.value_conv)
        )
        attention = torch.bmm(query.transpose(1, 2), key).softmax(-1)  # (B, side, side)
        out = torch.bmm(value, attention.transpose(1, 2))
        return torch.addcmul(x, self.gamma, out.reshape(x.shape))
