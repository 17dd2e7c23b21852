"""Pyramid blending: a high-resolution map whose structure comes from a low-resolution pass.

InSPyReNet, section 3.4.
"""

from __future__ import annotations

from torch import Tensor

from .layers import resize
from .network import InSPyReNetNetwork, SaliencyPyramid
from .pyramid import reconstruct, transition_mask

__all__ = ["blend_pyramids", "predict_blended"]

# Side in pixels of the structuring element that widens the edges of d3, d2 and d1.
TRANSITION_SIZES = (5, 9, 17)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]


def blend_pyramids(low: Tensor, high: SaliencyPyramid) -> SaliencyPyramid:
    """Blend two complete pyramids.

    Args:
        low: (B, 1, h, w), the finest saliency logits of the low-resolution pass.
        high: the high-resolution pyramid; only the size of its d3, and its p2, p1 and p0, are read.

    Returns:
        The blended pyramid.
    """
    saliency = [resize(low, _size(high.saliency[0]))]
    laplacian = []
    for detail, size in zip(high.laplacian, TRANSITION_SIZES, strict=True):
        band = resize(transition_mask(saliency[-1], size), _size(detail))
        laplacian.append(band * detail)
        saliency.append(reconstruct(saliency[-1], laplacian[-1]))
    return SaliencyPyramid(saliency, laplacian)


def predict_blended(network: InSPyReNetNetwork, low: Tensor, images: Tensor) -> SaliencyPyramid:
    """The blended pyramid of images; the finest details are computed only where the blend keeps them.

    Args:
        network: in evaluation mode.
        low: (B, 1, h, w), the finest saliency logits of the low-resolution pass.
        images: (B, 3, H, W), normalised RGB, the high-resolution images.

    Returns:
        As :func:`blend_pyramids` of ``network(images)``.
    """
    coarse = network.coarse(images)
    (d3, _, _), (p2, p1) = coarse.pyramid
    saliency = [resize(low, _size(d3))]
    laplacian = []
    for detail, size in zip((p2, p1), TRANSITION_SIZES, strict=False):
        band = resize(transition_mask(saliency[-1], size), _size(detail))
        laplacian.append(band * detail)
        saliency.append(reconstruct(saliency[-1], laplacian[-1]))
    band = resize(transition_mask(saliency[-1], TRANSITION_SIZES[-1]), coarse.size)
    finest = network.finest(coarse, wanted=band).laplacian[-1]
    laplacian.append(band * finest)
    saliency.append(reconstruct(saliency[-1], laplacian[-1]))
    return SaliencyPyramid(saliency, laplacian)
