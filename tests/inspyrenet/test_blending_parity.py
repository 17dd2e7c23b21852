"""Pyramid blending at 768 x 1024 against recorded numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sor_ppa.inspyrenet.network import InSPyReNetNetwork, SaliencyPyramid, predict_blended
from sor_ppa.inspyrenet.preprocess import resize_antialiased
from sor_ppa.inspyrenet.pyramid import transition_mask

from .fixtures import arrays, assert_close, case_image, filled_network, normalized

CASE = "r50_hr_768x1024"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def passes() -> tuple[InSPyReNetNetwork, Tensor, SaliencyPyramid, SaliencyPyramid, SaliencyPyramid]:
    """The network, the high-resolution input, and the pyramids of both passes and of their blend."""
    network = filled_network(CASE, tile=128)
    image = torch.from_numpy(case_image(CASE)).permute(2, 0, 1)
    small = resize_antialiased(image, (384, 384)).permute(1, 2, 0).numpy()
    high = normalized(case_image(CASE))
    with torch.no_grad():
        low = network(normalized(small))
        return network, high, low, network(high), predict_blended(network, low.saliency[-1], high)


def agreeing(found: Tensor, data: Any, name: str, tolerance: float) -> float:
    """Fraction of the recorded samples that agree; one flipped band pixel moves its neighbors."""
    flat = found.flatten().double()
    index = torch.linspace(0, flat.numel() - 1, data[name].size).round().long()
    error = np.abs(flat[index].numpy() - data[name])
    return float((error < tolerance * np.abs(data[name]).max()).mean())


def test_the_image_is_resized_as_published() -> None:
    data = arrays(CASE)
    image = torch.from_numpy(case_image(CASE)).permute(2, 0, 1)
    small = resize_antialiased(image, (384, 384)).permute(1, 2, 0)
    index = torch.linspace(0, small.numel() - 1, 64).round().long()
    assert np.array_equal(small.flatten()[index].numpy(), data["image_resized/sample"])


def test_both_passes_agree(passes) -> None:
    _, _, low, high, _ = passes
    data = arrays(CASE)
    for prefix, pyramid in (("lr", low), ("hr", high)):
        for level, saliency in zip((3, 2, 1, 0), pyramid.saliency, strict=True):
            assert_close(saliency, data, f"{prefix}/d{level}", 1e-4)
        for level, laplacian in zip((2, 1, 0), pyramid.laplacian, strict=True):
            assert_close(laplacian, data, f"{prefix}/p{level}", 1e-4)


def test_the_blend_agrees(passes) -> None:
    blended, data = passes[-1], arrays(CASE)
    for level, saliency in zip((3, 2, 1, 0), blended.saliency, strict=True):
        assert agreeing(saliency, data, f"blended/d{level}", 1e-4) > 0.998, level
    for level, laplacian in zip((2, 1, 0), blended.laplacian, strict=True):
        assert agreeing(laplacian, data, f"blended/p{level}", 1e-4) > 0.998, level
    probability = blended.saliency[-1].sigmoid()
    span = probability.max() - probability.min()
    assert agreeing((probability - probability.min()) / span, data, "pred", 1e-3) > 0.998


def test_the_transition_bands_agree(passes) -> None:
    blended, data = passes[-1], arrays(CASE)
    for level, size, saliency in zip((2, 1, 0), (5, 9, 17), blended.saliency, strict=False):
        band = transition_mask(saliency, size).flatten().numpy().astype(bool)
        expected = np.unpackbits(data[f"transition{level}/bits"])[: band.size].astype(bool)
        allowed = 5 + int(data[f"transition{level}/near_half_1e-4"])
        assert (band != expected).sum() <= allowed, level


def test_skipped_tiles_do_not_change_the_blend(passes) -> None:
    network, images, low, _, blended = passes
    network.tile = 0
    with torch.no_grad():
        whole = predict_blended(network, low.saliency[-1], images)
    for one, other in zip(blended.saliency, whole.saliency, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
