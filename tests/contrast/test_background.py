"""Robust background detection (Zhu et al., CVPR 2014)."""

from __future__ import annotations

import numpy as np

from sor_ppa.contrast.background import background_probability, optimize_saliency, weighted_contrast
from sor_ppa.contrast.superpixels import Superpixels, color_words, segment, to_lab
from tests.contrast.pictures import disc, picture


def analyzed(bgr: np.ndarray) -> Superpixels:
    lab = to_lab(bgr)
    return segment(lab, color_words(lab, 8), 200, mirrored=False)


def inside(pixels: Superpixels, mask: np.ndarray) -> np.ndarray:
    """Superpixels that lie in a mask by more than half."""
    return np.bincount(pixels.labels.ravel(), mask.ravel()) > 0.5 * pixels.area


def test_a_region_away_from_the_border_is_no_background() -> None:
    mask = disc(100, 80, 35)
    pixels = analyzed(picture((mask, (40, 60, 220))))
    background, object_ = background_probability(pixels), inside(pixels, mask)
    assert background[object_].max() < 0.1
    assert background[~object_].min() > 0.9


def test_a_region_that_the_frame_barely_cuts_is_less_background_than_one_along_it() -> None:
    cut = disc(100, 10, 30)  # a disc cut by the upper side
    band = np.zeros_like(cut)
    band[130:] = True  # a band along the lower side
    pixels = analyzed(picture((cut, (40, 60, 220)), (band, (60, 160, 60))))
    background = background_probability(pixels)
    assert background[inside(pixels, cut)].mean() < background[inside(pixels, band)].mean()


def test_saliency_is_high_on_the_object_and_low_around_it() -> None:
    mask = disc(100, 80, 35)
    pixels = analyzed(picture((mask, (40, 60, 220))))
    background = background_probability(pixels)
    saliency = optimize_saliency(pixels, background, weighted_contrast(pixels, background))
    object_ = inside(pixels, mask)
    assert saliency[object_].min() > 0.8
    assert saliency[~object_].max() < 0.2
