"""Deformable convolution v1 and v2 on torchvision's kernel."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.ops import DeformConv2d

__all__ = ["DeformableConv2d"]


class DeformableConv2d(nn.Module):
    """3x3 convolution whose taps move by learnt offsets (Dai et al., ICCV 2017; Zhu et al., CVPR 2019).

    Args:
        in_channels, out_channels: C and D.
        modulated: also learn a weight per tap (v2).
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
        self.modulated = modulated
        self.num_offsets = 18 * groups
        self.offset = nn.Conv2d(
            in_channels, self.num_offsets + (9 * groups if modulated else 0), 3, padding=1
        )
        nn.init.zeros_(self.offset.weight)
        assert self.offset.bias is not None
        nn.init.zeros_(self.offset.bias)
        self.conv = DeformConv2d(in_channels, out_channels, 3, padding=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D, H, W)."""
        offset = self.offset(x)
        if not self.modulated:
            return self.conv(x, offset)
        return self.conv(x, offset[:, : self.num_offsets], offset[:, self.num_offsets :].sigmoid())
