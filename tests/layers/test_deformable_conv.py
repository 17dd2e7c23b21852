"""Deformable convolution without offsets is a convolution."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sor_ppa.layers import DeformableConv2d


@pytest.mark.parametrize(("modulated", "factor"), [(False, 1.0), (True, 0.5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_starts_as_a_plain_convolution(modulated: bool, factor: float, groups: int) -> None:
    torch.manual_seed(0)
    layer = DeformableConv2d(4, 3, modulated=modulated, groups=groups)
    x = torch.randn(2, 4, 7, 9)
    expected = F.conv2d(x, layer.conv.weight, padding=1) * factor  # a weight of 0 passes a sigmoid
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)


def test_offsets_move_the_taps() -> None:
    torch.manual_seed(0)
    layer = DeformableConv2d(1, 1, modulated=False)
    x = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        layer.offset.bias[1::2] = 1.0  # each pair is (y, x)
    shifted = F.conv2d(F.pad(x, (1, 2, 1, 1)), layer.conv.weight)[..., 1:]
    torch.testing.assert_close(layer(x), shifted, atol=1e-5, rtol=1e-4)
