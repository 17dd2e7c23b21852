"""Pyramid operators against recorded numbers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sor_ppa.inspyrenet.pyramid import TAPS, _dilate, expand, reconstruct, reduce, transition_mask

from .fixtures import check_unit, unit


@pytest.mark.parametrize("case", ["even", "odd"])
def test_pyramid_operators(case: str) -> None:
    x = unit(f"pyramid/{case}/x")
    low = reduce(x)
    laplacian = x - F.interpolate(expand(low), x.shape[-2:])
    check_unit(low, f"pyramid/{case}/reduce")
    check_unit(expand(x), f"pyramid/{case}/expand")
    check_unit(low, f"pyramid/{case}/deconstruct_low")
    check_unit(laplacian, f"pyramid/{case}/deconstruct_laplacian")
    check_unit(reconstruct(low, laplacian), f"pyramid/{case}/reconstruct_same")
    other = unit(f"pyramid/{case}/laplacian_other_size")
    check_unit(reconstruct(low, other), f"pyramid/{case}/reconstruct_other_size")


def test_gaussian_kernel() -> None:
    check_unit(torch.outer(torch.tensor(TAPS), torch.tensor(TAPS))[None, None], "pyramid/kernel")


@pytest.mark.parametrize("size", [17, 9, 5])
def test_transition_masks(size: int) -> None:
    logits = unit("transition/x")
    probability = logits.sigmoid()
    check_unit(_dilate(probability, size), f"transition/{size}/dilation")
    check_unit(-_dilate(-probability, size), f"transition/{size}/erosion")
    expected = unit(f"transition/{size}/mask")
    assert torch.equal(transition_mask(logits, size).to(torch.uint8), expected)
