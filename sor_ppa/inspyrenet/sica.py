"""Scale-invariant context attention (SICA), InSPyReNet section 3.2.

Each pixel attends to three or five *regions* of the image: salient, not salient, uncertain, and both sides of
the Laplacian map one level coarser. Regions are summarized on a grid of fixed size, so the module works at
any resolution.

Two things are computed differently from the paper's figure, with the same result. The output of the attention
is a mixture of K <= 5 vectors per pixel, so the convolution after it is applied to the K mixing weights. In
inference, everything after the region summary is computed tile by tile, with a margin as wide as the
receptive field of the convolutions, so that no full-size feature map is stored; tiles that are not needed
are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvBlock, resize

__all__ = ["ContextAttention", "tiles"]

# Convolutions of radius 1 between the input and the Laplacian map.
MARGIN = 5
# Channels that are resized at once to summarize regions.
CHUNK = 16


def tiles(height: int, width: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Cut an image into tiles (rows, columns) of nearly equal size, at most ``side`` x ``side`` pixels."""

    def spans(length: int) -> list[slice]:
        count = -(-length // side)
        return [slice(i * length // count, (i + 1) * length // count) for i in range(count)]

    return product(spans(height), spans(width))


def _widened(span: slice, margin: int, length: int) -> slice:
    """Return the span with ``margin`` pixels on both sides, cut at the border of the image."""
    return slice(max(span.start - margin, 0), min(span.stop + margin, length))


def _moved(span: slice, start: int) -> slice:
    """Return the span, counted from ``start``."""
    return slice(span.start - start, span.stop - start)


def crop_resized(feature: Tensor, size: tuple[int, int], rows: slice, columns: slice) -> Tensor:
    """Return ``resize(feature, size)[:, :, rows, columns]``, computed in this part only.

    Args:
        feature: (B, C, h, w) where size is (h, w) or (2h, 2w).
        size: (H, W) of the whole.
        rows, columns: the part.
    """
    if tuple(feature.shape[-2:]) == size:
        return feature[:, :, rows, columns]
    low = [
        _widened(slice(span.start // 2, (span.stop + 1) // 2), 1, length)
        for span, length in zip((rows, columns), feature.shape[-2:], strict=True)
    ]
    part = feature[:, :, low[0], low[1]]
    up = F.interpolate(part, scale_factor=2, mode="bilinear", align_corners=False)
    return up[:, :, _moved(rows, 2 * low[0].start), _moved(columns, 2 * low[1].start)]


def convolve_each(images: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve each image with a kernel of its own, with zeros around it.

    Args:
        images: (B, K, H, W).
        kernels: (B, O, K, 3, 3).
        bias: (O,).

    Returns:
        (B, O, H, W).
    """
    if not torch.compiler.is_exporting():
        each = zip(images, kernels, strict=True)
        return torch.cat([F.conv2d(image[None], kernel, bias, padding=1) for image, kernel in each])
    # for any number of images: a matrix product with the nine shifted copies of each image
    height, width = images.shape[-2:]
    padded = F.pad(images, (1, 1, 1, 1))
    shifted = [padded[:, :, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    columns = torch.cat(shifted, dim=1).flatten(2)  # (B, 9K, HW)
    matrices = kernels.flatten(3).transpose(2, 3).flatten(2)  # (B, O, 9K)
    out = torch.bmm(matrices, columns).unflatten(2, (height, width))
    return out if bias is None else out + bias[:, None, None]


class ContextAttention(nn.Module):
    """Scale-invariant context attention.

    Args:
        in_channels: channels of the features.
        channels: channels inside and out.
        grid: side (height, width) of the grid on which regions are summarized.
        with_laplacian: regions of the coarser Laplacian map join those of the saliency map (K = 5, not 3).
    """

    def __init__(
        self, in_channels: int, channels: int, grid: tuple[int, int], with_laplacian: bool = False
    ) -> None:
        super().__init__()
        self.grid = grid
        self.scale = channels**-0.5
        self.with_laplacian = with_laplacian

        def two(kernel: int) -> nn.Sequential:
            first = ConvBlock(in_channels, channels, kernel, relu=True)
            return nn.Sequential(first, ConvBlock(channels, channels, kernel, relu=True))

        self.conv_query, self.conv_key, self.conv_value = two(3), two(1), two(1)
        self.conv_out1 = ConvBlock(channels, channels, 3, relu=True)
        self.conv_out2 = ConvBlock(in_channels + channels, channels, 3, relu=True)
        self.conv_out3 = ConvBlock(channels, channels, 3, relu=True)
        self.conv_out4 = ConvBlock(channels, 1, 1)
        self.threshold = nn.Parameter(torch.tensor([0.5]))
        if with_laplacian:
            self.lthreshold = nn.Parameter(torch.tensor([0.5]))

    def forward(
        self,
        features: Sequence[Tensor],
        size: tuple[int, int],
        saliency: Tensor,
        laplacian: Tensor | None = None,
        *,
        tile: int = 0,
        wanted: Tensor | None = None,
        keep_features: bool = True,
    ) -> tuple[Tensor | None, Tensor]:
        """Compute the features and the Laplacian map of one level.

        Args:
            features: maps (B, C_i, h_i, w_i), resized to ``size`` and concatenated.
            size: (H, W) of the level in pixels.
            saliency: (B, 1, h, w) logits of the coarser level.
            laplacian: (B, 1, h, w) logits of the coarser level, if ``with_laplacian``.
            tile: side in pixels of the tiles to compute one after another; 0: no tiles.
            wanted: (B, 1, H, W); tiles in which it is zero everywhere are skipped.
            keep_features: return the feature map.

        Returns:
            The feature map (B, channels, H, W), or None, and Laplacian logits (B, 1, H, W); both are zero in
            skipped tiles.
        """
        height, width = size
        regions = self._regions(size, saliency, laplacian)
        if not tile or (tile >= height and tile >= width):
            x = torch.cat([resize(feature, size) for feature in features], 1)
            feature, out = self._refine(x, *self._summarize([x], size, regions))
            return feature if keep_features else None, out

        # Features of half the size are resized tile by tile.
        features = [
            feature if (2 * feature.shape[2], 2 * feature.shape[3]) == size else resize(feature, size)
            for feature in features
        ]
        key, value = self._summarize(features, size, regions)
        batch = features[0].shape[0]
        out = features[0].new_zeros(batch, 1, height, width)
        whole: Tensor | None = None
        if keep_features:
            whole = out.new_zeros(batch, self.conv_out3.conv.out_channels, height, width)
            whole = whole.contiguous(memory_format=torch.channels_last)
        for rows, columns in tiles(height, width, tile):
            if wanted is not None and not wanted[:, :, rows, columns].any():
                continue
            outer = _widened(rows, MARGIN, height), _widened(columns, MARGIN, width)
            inner = _moved(rows, outer[0].start), _moved(columns, outer[1].start)
            x = torch.cat([crop_resized(feature, size, *outer) for feature in features], 1)
            feature, laplace = self._refine(x, key, value)
            out[:, :, rows, columns] = laplace[:, :, inner[0], inner[1]]
            if whole is not None:
                whole[:, :, rows, columns] = feature[:, :, inner[0], inner[1]]
        return whole, out

    def _regions(self, size: tuple[int, int], saliency: Tensor, laplacian: Tensor | None) -> Tensor:
        """Return the membership of each grid cell in each region, (B, K, grid height * grid width)."""
        assert (laplacian is not None) == self.with_laplacian
        distance = resize(saliency, size).sigmoid() - self.threshold
        maps = [distance.clamp(0, 1), (-distance).clamp(0, 1), self.threshold - distance.abs()]
        if laplacian is not None:
            distance = resize(laplacian, size).sigmoid() - self.lthreshold
            maps += [distance.clamp(0, 1), (-distance).clamp(0, 1)]
        return resize(torch.cat(maps, 1), self.grid).flatten(2)

    def _summarize(
        self, features: Sequence[Tensor], size: tuple[int, int], regions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compute key and value of each region, both (B, channels, K).

        As published, the features on the grid are read in memory order as (cells, C), not transposed, and
        summed without normalization. Such large sums do not fit into float16, so autocast is off here.
        """
        channels = sum(feature.shape[1] for feature in features)
        regions = regions.to(self.threshold.dtype)
        slabs: Iterable[Tensor] = chain.from_iterable(feature.split(CHUNK, 1) for feature in features)
        whole = CHUNK * self.grid[0] * self.grid[1] % channels == 0
        if not whole or any(feature.shape[1] % CHUNK for feature in features):
            slabs = [torch.cat([resize(feature, size) for feature in features], 1)]
        context = regions.new_zeros(regions.shape[0], regions.shape[1], channels)
        row = 0  # of the (cells, C) matrix
        with torch.autocast(regions.device.type, enabled=False):
            for slab in slabs:
                on_grid = resize(resize(slab.to(regions.dtype).contiguous(), size), self.grid)
                part = on_grid.reshape(on_grid.shape[0], -1, channels)
                context = context + torch.bmm(regions[:, :, row : row + part.shape[1]], part)
                row += part.shape[1]
            column = context.transpose(1, 2).unsqueeze(3)  # (B, C, K, 1)
            return self.conv_key(column).flatten(2), self.conv_value(column).flatten(2)

    def _refine(self, x: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Attend to the regions and refine, (B, C, H, W) -> (B, channels, H, W), (B, 1, H, W)."""
        query = self.conv_query(x)
        weights = torch.einsum("bchw,bck->bkhw", query, self.scale * key).softmax(1)
        # conv(sum_k w_k v_k) = sum_k conv_k(w_k): the kernel of each image is contracted with its values.
        kernels = torch.einsum("oiyx,bik->bokyx", self.conv_out1.conv.weight, value)
        attended = self.conv_out1.finish(convolve_each(weights, kernels, self.conv_out1.conv.bias))
        feature = self.conv_out3(self.conv_out2(torch.cat([x, attended], 1)))
        return feature, self.conv_out4(feature)
