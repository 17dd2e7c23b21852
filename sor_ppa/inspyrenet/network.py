"""The InSPyReNet network: image in, saliency pyramid out; and the blend of two passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from .context import ContextDecoder, ContextEncoder
from .layers import resize
from .pyramid import reconstruct, transition_mask
from .sica import ContextAttention

if TYPE_CHECKING:
    from ..backbone.swin import Swin
    from .res2net import Res2Net50

__all__ = ["CoarseLevels", "InSPyReNetNetwork", "SaliencyPyramid", "build_encoder", "predict_blended"]

# Sides in pixels of the tiles of the fine levels.
CPU_TILE = 128
DEVICE_TILE = 1024
# Sides in pixels of the structuring elements that widen the edges of d3, d2 and d1 in a blend.
TRANSITION_SIZES = (5, 9, 17)


class SaliencyPyramid(NamedTuple):
    """Saliency logits d3 ... d0 and Laplacians p2 ... p0, coarsest first, each (B, 1, H_i, W_i)."""

    saliency: list[Tensor]
    laplacian: list[Tensor]


class CoarseLevels(NamedTuple):
    """All levels but the finest, and the inputs of the finest: a feature map and its (height, width)."""

    pyramid: SaliencyPyramid
    feature: Tensor
    size: tuple[int, int]


def build_encoder(name: str) -> Res2Net50 | Swin:
    """Return the encoder of a published model, "res2net50" or "swin_b"."""
    from ..backbone.swin import Swin
    from .res2net import Res2Net50  # timm takes most of a second to import

    return {"res2net50": Res2Net50, "swin_b": Swin}[name]()


class InSPyReNetNetwork(nn.Module):
    """Inverse saliency pyramid reconstruction network (InSPyReNet, fig. 2), published parameter names.

    Args:
        backbone: encoder with five outputs of ``backbone.out_channels`` channels.
        depth: channels of every context and decoder feature.
        base_size: (height, width) in pixels of the training images; it sets the grids of the context
            attention.
        tile: side in pixels of the tiles in which the fine levels are computed in inference; 0: no tiles;
            None: small tiles on CPUs (to fit into their caches), large ones on other devices. Results
            differ by rounding only.
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
        for level, channels in enumerate(backbone.out_channels, start=1):
            self.add_module(f"context{level}", ContextEncoder(channels, depth))
        self.decoder = ContextDecoder(3 * depth, depth)
        grids = [(base_size[0] // 2**level, base_size[1] // 2**level) for level in range(3)]
        self.attention0 = ContextAttention(depth, depth, grids[0], with_laplacian=True)
        self.attention1 = ContextAttention(2 * depth, depth, grids[1], with_laplacian=True)
        self.attention2 = ContextAttention(2 * depth, depth, grids[2])

    def forward(self, images: Tensor) -> SaliencyPyramid:
        """Compute the saliency pyramid.

        Args:
            images: (B, 3, H, W), normalized RGB; sides are multiples of 4.

        Returns:
            d3 (stride 8), d2 (4), d1 (2), d0 (1) and p2, p1, p0.
        """
        return self.finest(self.coarse(images))

    def coarse(self, images: Tensor) -> CoarseLevels:
        """Compute levels 3, 2 and 1 of images as in :meth:`forward`."""
        height, width = images.shape[-2:]
        assert height % 4 == 0
        assert width % 4 == 0
        tile = self._tile_side(images)
        features = self.backbone(images)
        contexts = []
        for level in range(5, 0, -1):  # from the last, so that each feature map is freed after its use
            contexts.append(getattr(self, f"context{level}")(features.pop()))
        x5, x4, x3, x2, x1 = contexts

        f3, d3 = self.decoder([x3, x4, x5])
        f2, p2 = self.attention2([x2, f3], (height // 4, width // 4), d3.detach(), tile=tile)
        d2 = reconstruct(d3.detach(), p2)
        f1, p1 = self.attention1([x1, f2], (height // 2, width // 2), d2.detach(), p2.detach(), tile=tile)
        d1 = reconstruct(d2.detach(), p1)
        return CoarseLevels(SaliencyPyramid([d3, d2, d1], [p2, p1]), f1, (height, width))

    def _tile_side(self, x: Tensor) -> int:
        if self.training or torch.compiler.is_exporting():
            return 0
        if self.tile is not None:
            return self.tile
        return CPU_TILE if x.device.type == "cpu" else DEVICE_TILE

    def finest(self, coarse: CoarseLevels, wanted: Tensor | None = None) -> SaliencyPyramid:
        """Add level 0.

        Args:
            coarse: of :meth:`coarse`.
            wanted: (B, 1, H, W); tiles in which it is zero everywhere are not computed, p0 is zero there.
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


def predict_blended(network: InSPyReNetNetwork, low: Tensor, images: Tensor) -> SaliencyPyramid:
    """Blend a high-resolution pass into a low-resolution map (InSPyReNet, section 3.4).

    The structure comes from ``low``, the details near its edges from ``network(images)``. The finest details
    are computed only where the blend needs them.

    Args:
        network: in evaluation mode.
        low: (B, 1, h, w), the finest saliency logits of the low-resolution pass.
        images: (B, 3, H, W), normalized RGB, the high-resolution images.

    Returns:
        The blended pyramid.
    """
    coarse = network.coarse(images)
    (d3, _, _), details = coarse.pyramid
    saliency, laplacian = [resize(low, _height_width(d3))], []
    for level, transition in enumerate(TRANSITION_SIZES):
        band = transition_mask(saliency[-1], transition)
        if level < len(details):
            band = resize(band, _height_width(details[level]))
            detail = details[level]
        else:
            band = resize(band, coarse.size)
            detail = network.finest(coarse, wanted=band).laplacian[-1]
        laplacian.append(band * detail)
        saliency.append(reconstruct(saliency[-1], laplacian[-1]))
    return SaliencyPyramid(saliency, laplacian)


def _height_width(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]
