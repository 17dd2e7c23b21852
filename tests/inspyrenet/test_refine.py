"""Sharper masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from sor_ppa.evaluation.boundary import boundary_accuracy
from sor_ppa.inspyrenet.refine import ColorRefiner, NetworkRefiner, refine_masks, signed_distance

from .test_meta_arch import model  # noqa: F401  (a fixture)


def scene(height: int = 240, width: int = 320) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A noisy picture with a bright disc, the disc, and the disc as a coarse detector sees it."""
    rows, columns = np.mgrid[:height, :width]
    disc = (rows - 120) ** 2 + (columns - 160) ** 2 < 70**2
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 12, (*disc.shape, 3))
    image = np.where(disc[..., None], (200, 150, 60), (60, 90, 120)) + noise
    coarse = np.kron(disc[5::10, 5::10], np.ones((10, 10), bool))
    return np.clip(image, 0, 255).astype(np.uint8), disc, coarse


def test_colors_sharpen_a_coarse_mask() -> None:
    image, truth, coarse = scene()
    (sharper,) = refine_masks(image, coarse[None], ColorRefiner(), band=0.12)
    before, after = boundary_accuracy(coarse, truth), boundary_accuracy(sharper, truth)
    assert before is not None
    assert after is not None
    assert before < 0.8
    assert after > 0.9


def test_empty_full_and_tiny_masks_survive() -> None:
    image, _, _ = scene()
    masks = np.zeros((3, 240, 320), bool)
    masks[1] = True
    masks[2, 5, 7] = True
    refined = refine_masks(image, masks, ColorRefiner())
    assert not refined[0].any()
    assert refined[1].all()
    assert refined[2].any()
    assert refine_masks(image, masks[:0], ColorRefiner()).shape == (0, 240, 320)


def test_nothing_changes_beyond_the_band(model: Any) -> None:  # noqa: F811
    image, _, coarse = scene()
    for refiner in (ColorRefiner(), NetworkRefiner(model, largest=128)):
        (sharper,) = refine_masks(image, coarse[None], refiner, band=0.03)
        assert (np.abs(signed_distance(coarse))[sharper != coarse] < 0.03 * np.sqrt(coarse.sum())).all()
