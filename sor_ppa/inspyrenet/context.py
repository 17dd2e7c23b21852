"""Multi-scale encoder (PAA-e) and decoder (PAA-d) of InSPyReNet, section 3.1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import AxisAttention, ConvBlock, resize

__all__ = ["AxialBranch", "ContextDecoder", "ContextEncoder"]


class AxialBranch(nn.Module):
    """One receptive field: separable convolution, attention along both axes, dilated convolution.

    Args:
        in_channels, channels: of input and output.
        reach: side of the separable kernel and dilation of the last one.
    """

    def __init__(self, in_channels: int, channels: int, reach: int) -> None:
        super().__init__()
        self.conv0 = ConvBlock(in_channels, channels, 1)
        self.conv1 = ConvBlock(channels, channels, (1, reach))
        self.conv2 = ConvBlock(channels, channels, (reach, 1))
        self.conv3 = ConvBlock(channels, channels, 3, dilation=reach)
        self.Hattn = AxisAttention(channels, "h")
        self.Wattn = AxisAttention(channels, "w")

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H, W)."""
        x = self.conv2(self.conv1(self.conv0(x)))
        return self.conv3(self.Hattn(x) + self.Wattn(x))


class ContextEncoder(nn.Module):
    """PAA-e: a 1x1 branch and three axial branches of reach 3, 5 and 7, merged, with a residual.

    Args:
        in_channels, channels: of input and output.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.branch0 = ConvBlock(in_channels, channels, 1)
        self.branch1 = AxialBranch(in_channels, channels, 3)
        self.branch2 = AxialBranch(in_channels, channels, 5)
        self.branch3 = AxialBranch(in_channels, channels, 7)
        self.conv_cat = ConvBlock(4 * channels, channels, 3)
        self.conv_res = ConvBlock(in_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H, W)."""
        branches = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)]
        return F.relu(self.conv_cat(torch.cat(branches, 1)) + self.conv_res(x))


class ContextDecoder(nn.Module):
    """PAA-d: merge the three coarse contexts into a feature map and the coarsest saliency map.

    Args:
        in_channels: channels of the concatenated contexts.
        channels: channels of the feature map.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvBlock(in_channels, channels, 3)
        self.conv2 = ConvBlock(channels, channels, 3)
        self.conv3 = ConvBlock(channels, channels, 3)
        self.conv4 = ConvBlock(channels, channels, 3)
        self.conv5 = ConvBlock(channels, 1, 3, norm=False)
        self.Hattn = AxisAttention(channels, "h")
        self.Wattn = AxisAttention(channels, "w")

    def forward(self, contexts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Merge contexts (B, C, H_i, W_i), finest first.

        Returns:
            The feature map (B, channels, H, W) and saliency logits (B, 1, H, W) at the finest size.
        """
        size = (contexts[0].shape[2], contexts[0].shape[3])
        resized = [resize(context, size, align_corners=True) for context in contexts]
        x = self.conv1(torch.cat(resized[::-1], 1))
        x = self.conv2(self.Hattn(x) + self.Wattn(x))
        x = self.conv4(self.conv3(x))
        return x, self.conv5(x)
