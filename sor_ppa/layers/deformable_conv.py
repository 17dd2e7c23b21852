"""Deformable convolution v1 and v2 on torchvision's kernel."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

__all__ = ["DeformableConv2d", "deform", "offset_layer"]


def offset_layer(in_channels: int, modulated: bool, groups: int = 1) -> nn.Conv2d:
    """Return the layer that predicts 18 offsets per group for 3x3 taps, and 9 weights if ``modulated``."""
    layer = nn.Conv2d(in_channels, (27 if modulated else 18) * groups, 3, padding=1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def deform(x: Tensor, offset: nn.Module, conv: DeformConv2d, groups: int = 1) -> Tensor:
    """Convolve (B, C, H, W) at the offsets, and with the tap weights if any, that ``offset`` predicts."""
    moved = offset(x)
    count = 18 * groups
    if moved.shape[1] == count:
        return conv(x, moved)
    return conv(x, moved[:, :count], moved[:, count:].sigmoid())


class DeformableConv2d(nn.Module):
    """3x3 convolution with learned offsets of its taps (Dai et al., ICCV 2017; Zhu et al., CVPR 2019).

    Args:
        in_channels, out_channels: C and D.
        modulated: also learn a weight per tap (version 2).
        groups: of the offsets.
        bias: of the convolution itself.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        modulated: bool = True,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.groups = groups
        self.offset = offset_layer(in_channels, modulated, groups)
        self.conv = DeformConv2d(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        return deform(x, self.offset, self.conv, self.groups)
