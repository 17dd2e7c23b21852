from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sor_ppa.data.masks import mask_box, mask_to_polygons, segmentation_mask


def noise_mask(seed: int, height: int, width: int, cells: int) -> np.ndarray:
    grid = np.random.default_rng(seed).random((max(2, height // cells), max(2, width // cells)))
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5


@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 50), st.integers(1, 8))
def test_polygons_restore_any_mask_exactly(seed: int, height: int, width: int, cells: int) -> None:
    mask = noise_mask(seed, height, width, cells)
    assert np.array_equal(segmentation_mask(mask_to_polygons(mask), height, width), mask)


def test_holes_stay_open() -> None:
    mask = np.ones((20, 30), bool)
    mask[5:9, 4:10] = False
    mask[12:14, 20:25] = False
    assert np.array_equal(segmentation_mask(mask_to_polygons(mask), 20, 30), mask)


def test_simplified_outlines_stay_close() -> None:
    mask = noise_mask(3, 200, 200, 50)
    simple = mask_to_polygons(mask, 0.5)
    found = segmentation_mask(simple, 200, 200)
    assert (found & mask).sum() / (found | mask).sum() > 0.98
    assert sum(map(len, simple)) < 0.6 * sum(map(len, mask_to_polygons(mask)))


def test_empty_mask() -> None:
    empty = np.zeros((4, 5), bool)
    assert mask_to_polygons(empty) == []
    assert mask_box(empty) is None
    assert not segmentation_mask([], 4, 5).any()


def test_box_has_exclusive_ends() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    assert mask_box(mask) == (3, 2, 8, 5)
