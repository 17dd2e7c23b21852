"""Swin Transformer with the parameter names of the published code, which InSPyReNet and Mask2Former share.

The blocks are our own: where a feature map is not a multiple of the window, ``timm`` pads after the cyclic
shift, and ``torchvision`` does not shift where one window covers the map. The published weights were trained
with padding before the shift, and with a shift everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp, gen_relative_position_index
from torch import Tensor, nn

from ..layers.batching import ceil_divide, round_up

__all__ = ["Swin"]


def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Return what is added to the attention logits of shifted windows: 0 in a region, -100 across regions.

    Args:
        height, width: of the padded map, multiples of ``window``.
        window: side of a window.
        shift: of the cyclic shift.
        device: of the result.

    Returns:
        (windows, window**2, window**2) float32 (Swin Transformer, section 3.2).
    """

    def regions(length: int) -> Tensor:
        position = torch.arange(length, device=device)
        return (position >= length - window).long() + (position >= length - shift).long()

    region = 3 * regions(height)[:, None] + regions(width)[None, :]
    region = region.view(height // window, window, width // window, window)
    region = region.transpose(1, 2).reshape(-1, window * window)
    return (region[:, :, None] != region[:, None, :]).float() * -100.0


class WindowAttention(nn.Module):
    """Multi-head self-attention inside windows with a relative position bias."""

    relative_position_index: Tensor

    def __init__(self, dim: int, window: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        index = gen_relative_position_index((window, window))
        self.register_buffer("relative_position_index", index, persistent=False)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, windows, N, C) -> same; ``mask`` (windows, N, N) is added to the logits."""
        batch, windows, length, dim = x.shape
        qkv = self.qkv(x).view(batch * windows, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index]  # (N, N, heads)
        bias = bias.permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(batch, 1, 1, 1)
        bias = bias.to(query.dtype).expand(batch * windows, -1, -1, -1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        out = out.transpose(1, 2).reshape(batch, windows, length, dim)
        return self.proj(out)


class SwinBlock(nn.Module):
    """Window attention and MLP, each with a LayerNorm before it and a residual."""

    def __init__(self, dim: int, heads: int, window: int, shift: int, rate: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.drop_path = DropPath(rate)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, window, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, H, W, C) -> same; ``mask`` is :func:`shift_mask` of the padded map."""
        x = x + self.drop_path(self._attend(self.norm1(x), mask))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        side = self.window
        rows, columns = ceil_divide(height, side), ceil_divide(width, side)
        x = F.pad(x, (0, 0, 0, columns * side - width, 0, rows * side - height))
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        windows = x.view(batch, rows, side, columns, side, dim).transpose(2, 3)
        windows = windows.reshape(batch, rows * columns, side * side, dim)
        windows = self.attn(windows, mask if self.shift else None)
        x = windows.view(batch, rows, columns, side, side, dim).transpose(2, 3)
        x = x.reshape(batch, rows * side, columns * side, dim)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class PatchMerging(nn.Module):
    """Join 2x2 vectors and map them to twice the width."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, ceil(H / 2), ceil(W / 2), 2C)."""
        rows, columns = (ceil_divide(side, 2) for side in x.shape[1:3])
        x = F.pad(x, (0, 0, 0, 2 * columns - x.shape[2], 0, 2 * rows - x.shape[1]))
        blocks = x.unflatten(2, (columns, 2)).unflatten(1, (rows, 2))  # (B, h, 2, w, 2, C)
        return self.reduction(self.norm(blocks.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class SwinStage(nn.Module):
    """Blocks of one resolution, every second one shifted, and the patch merging after them."""

    def __init__(self, dim: int, heads: int, window: int, rates: Sequence[float], merge: bool) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2
        self.blocks = nn.ModuleList(
            SwinBlock(dim, heads, window, self.shift if index % 2 else 0, rate)
            for index, rate in enumerate(rates)
        )
        self.downsample = PatchMerging(dim) if merge else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the blocks without the merging, (B, H, W, C) -> same."""
        height, width = (round_up(side, self.window) for side in x.shape[1:3])
        mask = shift_mask(height, width, self.window, self.shift, x.device)
        for block in self.blocks:
            x = block(x, mask)
        return x


class PatchEmbed(nn.Module):
    """Map 4x4 patches to vectors."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, stride=4)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, ceil(H / 4), ceil(W / 4), dim)."""
        x = F.pad(x, (0, -x.shape[3] % 4, 0, -x.shape[2] % 4))
        return self.norm(self.proj(x).permute(0, 2, 3, 1).contiguous())


class Swin(nn.Module):
    """The encoder: the patch embedding (stride 4), then the normalized output of each of four stages.

    Args:
        dim: channels of the first stage.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        window: side of a window.
        drop_path_rate: stochastic depth of the last block; earlier ones rise to it linearly from 0.
    """

    def __init__(
        self,
        dim: int = 128,
        depths: Sequence[int] = (2, 2, 18, 2),
        heads: Sequence[int] = (4, 8, 16, 32),
        window: int = 12,
        drop_path_rate: float = 0.2,
    ) -> None:
        super().__init__()
        last = max(sum(depths) - 1, 1)
        rates = [drop_path_rate * index / last for index in range(sum(depths))]
        widths = [dim * 2**stage for stage in range(len(depths))]
        self.out_channels = (dim, *widths)
        self.patch_embed = PatchEmbed(dim)
        self.layers = nn.ModuleList()
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            first = sum(depths[:stage])
            merge = stage + 1 < len(depths)
            self.layers.append(SwinStage(width, heads[stage], window, rates[first : first + depth], merge))
            self.add_module(f"norm{stage}", nn.LayerNorm(width))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> five feature maps (B, C_i, H_i, W_i), finest first."""
        x = self.patch_embed(x)
        features = [x]
        for stage, module in enumerate(self.layers):
            layer = cast(SwinStage, module)
            x = layer(x)
            features.append(getattr(self, f"norm{stage}")(x))
            if layer.downsample is not None:
                x = layer.downsample(x)
        return [feature.permute(0, 3, 1, 2) for feature in features]
