"""Salient object detection measures."""

from __future__ import annotations

import numpy as np
import pytest

from sor_ppa.evaluation.sod import MEASURES, SODScorer, sod_measures, sod_state

from .cases import FOLDER, reference


@pytest.fixture(scope="module")
def pairs():
    with np.load(FOLDER / "sod_arrays.npz") as arrays:
        return {name: (arrays[f"{name}_pred"], arrays[f"{name}_gt"]) for name in reference()["sod"]["cases"]}


def test_every_pair_equals_the_reference(pairs):
    for name, expected in reference()["sod"]["cases"].items():
        found = sod_measures(*pairs[name])
        assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6), name


def test_the_set_equals_the_reference(pairs):
    scorer = SODScorer()
    for pair in pairs.values():
        scorer.add(*pair)
    expected, found = reference()["sod"]["dataset"], scorer.result()
    assert {key: found[key] for key in expected} == pytest.approx(expected, abs=1e-6)


def test_parts_merge_to_the_whole(pairs):
    whole, first, second = SODScorer(), SODScorer(), SODScorer()
    for place, pair in enumerate(pairs.values()):
        whole.add(*pair)
        (first if place % 2 else second).add_state(sod_state(*pair))
    assert first.merge(second).result() == whole.result()


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
    grey, mask = pairs["s00"]
    given = sod_measures(grey / 255.0, mask > 128)
    assert tuple(given) == MEASURES
    assert given == pytest.approx(sod_measures(grey, mask), nan_ok=True)


@pytest.mark.parametrize(
    ("grey", "mask", "message"),
    [
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), bool), r"saliency_map: expected shape \(H, W\)"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 6), bool), "gt_mask: expected the shape of saliency_map"),
        (np.full((4, 5), 2.0), np.zeros((4, 5), bool), r"saliency_map: expected values in \[0, 1\]"),
        (np.full((4, 5), np.nan), np.zeros((4, 5), bool), r"saliency_map: expected values in \[0, 1\]"),
        (np.zeros((4, 5), np.int64), np.zeros((4, 5), bool), "saliency_map: expected uint8 or float"),
        (np.zeros((4, 5), np.uint8), np.zeros((4, 5), float), "gt_mask: expected bool or uint8"),
    ],
)
def test_bad_input_is_refused(grey, mask, message):
    with pytest.raises(ValueError, match=message):
        sod_measures(grey, mask)
