from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as mask_util

from sor_ppa.data.masks import (
    is_number,
    mask_box,
    mask_rings,
    mask_to_polygons,
    remember_runs,
    rings_mask,
    run_lengths,
    segmentation_box,
    segmentation_mask,
)


def noise_mask(seed: int, height: int, width: int, cells: int) -> np.ndarray:
    grid = np.random.default_rng(seed).random((max(2, height // cells), max(2, width // cells)))
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5


@given(st.integers(0, 10_000), st.integers(1, 50), st.integers(1, 50), st.integers(1, 8))
def test_polygons_restore_any_mask_exactly(seed: int, height: int, width: int, cells: int) -> None:
    mask = noise_mask(seed, height, width, cells)
    assert np.array_equal(segmentation_mask(mask_to_polygons(mask), height, width), mask)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1))
def test_rings_restore_any_mask_exactly(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    rings = mask_rings(mask)
    assert (rings_mask(rings, height, width) == mask).all()
    for ring in rings:  # along the edges of pixels
        points = np.reshape(ring, (-1, 2))
        assert ((points == np.roll(points, 1, axis=0)).sum(axis=1) == 1).all()


def test_simplified_outlines_stay_close() -> None:
    mask = noise_mask(3, 200, 200, 50)
    simple = mask_to_polygons(mask, 0.5)
    found = segmentation_mask(simple, 200, 200)
    assert (found & mask).sum() / (found | mask).sum() > 0.98
    assert sum(map(len, simple)) < 0.6 * sum(map(len, mask_to_polygons(mask)))


def test_an_empty_mask_has_no_polygon_and_no_box() -> None:
    empty = np.zeros((4, 5), bool)
    assert mask_to_polygons(empty) == []
    assert mask_box(empty) is None
    assert not segmentation_mask([], 4, 5).any()
    assert not segmentation_mask(None, 4, 5).any()


def test_boxes_have_exclusive_ends() -> None:
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    assert mask_box(mask) == (3, 2, 8, 5)
    assert segmentation_box(mask_to_polygons(mask)) == (3, 2, 8, 5)
    assert segmentation_box(mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))) == (3, 2, 8, 5)


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 0.02, 0.5, 1]))
def test_run_lengths_of_every_mask_are_valid(seed: int, height: int, width: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    code = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
    runs = np.diff(
        np.flatnonzero(np.diff(mask.T.reshape(-1).astype(int), prepend=0, append=2)), prepend=0
    ).tolist()
    for counts in (code["counts"], code["counts"].decode(), runs):
        assert run_lengths({**code, "counts": counts}).tolist() == runs
        assert np.array_equal(segmentation_mask({**code, "counts": counts}, height, width), mask)
        with pytest.raises(ValueError, match="found runs over"):
            run_lengths({**code, "counts": counts, "size": [height + 1, width]})


def test_masks_that_are_read_together_are_those_read_one_by_one() -> None:
    generator = np.random.default_rng(0)
    masks = [generator.random((8, 8)) < share for share in generator.random(1500)]
    texts = [mask_util.encode(np.asfortranarray(mask, np.uint8))["counts"] for mask in masks]
    bad = [b"", b"~~~", b"P", b"o" * 8 + b"0", b"@0"]  # no text, no code, no end, too long, negative
    remember_runs([{"counts": text} for text in [*texts[:700], *bad, *texts[700:]]] + [None, [0, 0, 1, 1]])
    for mask, text in zip(masks, texts, strict=True):
        assert np.array_equal(segmentation_mask({"size": [8, 8], "counts": text}, 8, 8), mask)
        runs = run_lengths({"size": [8, 8], "counts": text})
        assert np.array_equal(np.repeat(np.arange(len(runs)) % 2, runs), mask.T.reshape(-1))
    for text in bad:
        with pytest.raises(ValueError, match="expected"):
            run_lengths({"size": [8, 8], "counts": text})


@pytest.mark.parametrize(
    "code",
    [
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": "~~~"},
        {"size": [4, 4], "counts": "\udc80"},
        {"size": [4, 4], "counts": ""},
        {"size": [4], "counts": [16]},
        {"size": [4, 4]},
    ],
)
def test_run_lengths_that_do_not_cover_the_mask_are_refused(code: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        run_lengths(code)


def test_only_finite_64_bit_numbers_are_numbers() -> None:
    values = (2**62, 10**400, float("inf"), True, 0.5)
    assert [is_number(value) for value in values] == [True, False, False, False, True]
