"""Salient object detection measures."""

from __future__ import annotations

import numpy as np
import pytest

from sor_ppa.evaluation.sod import MEASURES, SODScorer, sod_measures

from .cases import FOLDER, reference


@pytest.fixture(scope="module")
def pairs():
    with np.load(FOLDER / "sod_arrays.npz") as arrays:
        return {name: (arrays[f"{name}_pred"], arrays[f"{name}_gt"]) for name in reference()["sod"]["cases"]}


def test_every_pair_and_the_set_equal_the_reference_also_in_parts(pairs):
    whole, first, second = SODScorer(), SODScorer(), SODScorer()
    for place, (name, expected) in enumerate(reference()["sod"]["cases"].items()):
        found = sod_measures(*pairs[name])
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6), name
        whole.add(*pairs[name])
        (first if place % 2 else second).add(*pairs[name])
    expected, found = reference()["sod"]["dataset"], whole.result()
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    assert first.merge(second).result() == found


def test_a_perfect_map_has_no_error_and_full_overlap(pairs):
    _, mask = pairs["s00"]
    found = sod_measures(mask, mask)
    assert found["mse"] == 0
    for name in ("iou_max", "biou_max", "tiou_max", "mba"):
        assert found[name] == 1


def test_iou_is_averaged_over_256_thresholds():
    mask = np.zeros((30, 40), bool)
    mask[:, 20:] = True
    gray = np.where(mask, 255, 0).astype(np.uint8)
    gray[:, 15:20] = 127
    found = sod_measures(gray, mask)
    assert found["iou_mean"] == pytest.approx((128 * 1 + 127 * 0.8 + 0.5) / 256)
    assert found["mse"] == pytest.approx((127 / 255) ** 2 * 5 / 40)


def test_without_images_there_is_nothing():
    assert SODScorer().result() == {}


def test_float_maps_and_bool_masks_are_the_same_thing(pairs):
    gray, mask = pairs["s00"]
    given = sod_measures(gray / 255.0, mask > 128)
    assert tuple(given) == MEASURES
    assert given == pytest.approx(sod_measures(gray, mask), nan_ok=True)


MASK = np.zeros((4, 5), bool)


@pytest.mark.parametrize(
    ("gray", "mask", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), MASK, r"saliency_map: expected shape \(H, W\)"),
        (np.zeros((4, 6), np.uint8), MASK, "gt_mask: expected the shape of saliency_map"),
        (np.full((4, 5), 2.0), MASK, r"saliency_map: expected values in \[0, 1\]"),
        (np.full((4, 5), np.nan), MASK, r"saliency_map: expected values in \[0, 1\]"),
        (np.zeros((4, 5), np.int64), MASK, "saliency_map: expected uint8 or float"),
        (np.zeros((4, 5), np.uint8), MASK.astype(float), "gt_mask: expected bool or uint8"),
    ],
)
def test_bad_input_is_refused(gray, mask, message):
    with pytest.raises(ValueError, match=message):
        sod_measures(gray, mask)
