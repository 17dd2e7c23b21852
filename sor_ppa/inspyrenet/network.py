"""The InSPyReNet network: image in, saliency pyramid out."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from .context import ContextDecoder, ContextEncoder
from .pyramid import reconstruct
from .res2net import Res2Net50
from .sica import ContextAttention
from .swin import Swin

__all__ = ["CoarseLevels", "InSPyReNetNetwork", "SaliencyPyramid", "build_encoder"]


# Sides in pixels of the tiles of the fine levels.
CPU_TILE = 128
DEVICE_TILE = 1024


class SaliencyPyramid(NamedTuple):
    """Saliency logits d3 ... d0 and Laplacians p2 ... p0, coarsest first, each (B, 1, H_i, W_i)."""

    saliency: list[Tensor]
    laplacian: list[Tensor]


class CoarseLevels(NamedTuple):
    """All levels but the finest, and what the finest is computed from."""

    pyramid: SaliencyPyramid
    feature: Tensor
    size: tuple[int, int]


def build_encoder(name: str) -> Res2Net50 | Swin:
    """The encoder of a published model.

    Args:
        name: "res2net50" or "swin_b".

    Raises:
        ValueError: another name.
    """
    if name == "res2net50":
        return Res2Net50()
    if name == "swin_b":
        return Swin()
    raise ValueError(f"MODEL.INSPYRENET.BACKBONE: expected 'res2net50' or 'swin_b', found {name!r}")


class InSPyReNetNetwork(nn.Module):
    """Inverse saliency pyramid reconstruction network (InSPyReNet, fig. 2), published parameter names.

    Args:
        backbone: encoder with five outputs of ``backbone.out_channels`` channels.
        depth: channels of every context and decoder feature.
        base_size: (height, width) in pixels of the images the weights were trained on; it sets the grids of
            the context attention.
        tile: side in pixels of the tiles in which the fine levels are computed outside training; 0: no
            tiles; None: by device, small on CPUs (whose caches hold them). The result does not depend on
            it beyond rounding.
    """

    def __init__(
        self,
        backbone: Res2Net50 | Swin,
        depth: int = 64,
        base_size: tuple[int, int] = (384, 384),
        tile: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.tile = tile
        channels = backbone.out_channels
        for level in range(5):
            self.add_module(f"context{level + 1}", ContextEncoder(channels[level], depth))
        self.decoder = ContextDecoder(3 * depth, depth)

        def grid(stage: int) -> tuple[int, int]:
            return base_size[0] // 2**stage, base_size[1] // 2**stage

        self.attention0 = ContextAttention(depth, depth, grid(0), with_laplacian=True)
        self.attention1 = ContextAttention(2 * depth, depth, grid(1), with_laplacian=True)
        self.attention2 = ContextAttention(2 * depth, depth, grid(2))

    def forward(self, images: Tensor) -> SaliencyPyramid:
        """The saliency pyramid.

        Args:
            images: (B, 3, H, W), normalised RGB; sides are multiples of 4.

        Returns:
            d3 (stride 8), d2 (4), d1 (2), d0 (1) and p2, p1, p0.

        Raises:
            ValueError: a side is not a multiple of 4.
        """
        return self.finest(self.coarse(images))

    def coarse(self, images: Tensor) -> CoarseLevels:
        """Levels 3, 2 and 1; arguments and errors as of :meth:`forward`."""
        height, width = images.shape[-2:]
        if height % 4 or width % 4:
            raise ValueError(f"image size: expected multiples of 4 pixels, found {height} x {width}")
        tile = self._tile_side(images)
        features = self.backbone(images)
        contexts = []
        for level in range(5, 0, -1):  # from the back, so that each feature map is freed once it is read
            contexts.append(getattr(self, f"context{level}")(features.pop()))
        x5, x4, x3, x2, x1 = contexts

        f3, d3 = self.decoder([x3, x4, x5])
        f2, p2 = self.attention2([x2, f3], (height // 4, width // 4), d3.detach(), tile=tile)
        d2 = reconstruct(d3.detach(), p2)
        f1, p1 = self.attention1([x1, f2], (height // 2, width // 2), d2.detach(), p2.detach(), tile=tile)
        d1 = reconstruct(d2.detach(), p1)
        return CoarseLevels(SaliencyPyramid([d3, d2, d1], [p2, p1]), f1, (height, width))

    def _tile_side(self, x: Tensor) -> int:
        if self.training:
            return 0
        if self.tile is not None:
            return self.tile
        return CPU_TILE if x.device.type == "cpu" else DEVICE_TILE

    def finest(self, coarse: CoarseLevels, wanted: Tensor | None = None) -> SaliencyPyramid:
        """Add level 0.

        Args:
            coarse: of :meth:`coarse`.
            wanted: (B, 1, H, W); with tiles, p0 is computed only in tiles where this is not zero
                everywhere, and is zero in the others.
        """
        (d3, d2, d1), (p2, p1) = coarse.pyramid
        _, p0 = self.attention0(
            [coarse.feature],
            coarse.size,
            d1.detach(),
            p1.detach(),
            tile=self._tile_side(coarse.feature),
            wanted=wanted,
            keep_features=False,
        )
        d0 = reconstruct(d1.detach(), p0)
        return SaliencyPyramid([d3, d2, d1, d0], [p2, p1, p0])
