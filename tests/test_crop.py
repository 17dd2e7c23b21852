"""Content-aware cropping."""

from __future__ import annotations

import numpy as np
import pytest

from sor_ppa.crop import choose_crop, parse_aspect


def boxes(height: int, width: int, *objects: tuple[int, int, int, int]) -> np.ndarray:
    masks = np.zeros((len(objects), height, width), bool)
    for mask, (left, top, right, bottom) in zip(masks, objects, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_without_objects_the_window_is_central():
    assert choose_crop(boxes(100, 300), 1.0).box == (100, 0, 200, 100)
    assert choose_crop(boxes(300, 100), 2.0).box == (0, 125, 100, 175)


def test_objects_that_fit_together_are_kept_whole():
    crop = choose_crop(boxes(100, 300, (210, 10, 230, 90), (150, 10, 160, 90)), 1.0)
    assert crop.kept == (1.0, 1.0)
    assert crop.box[0] <= 150
    assert crop.box[2] >= 230


@pytest.mark.parametrize("order", [1, -1])
def test_the_first_object_is_never_cut_while_it_fits(order: int):
    objects = [(0, 0, 60, 100), (130, 0, 300, 100)][::order]
    crop = choose_crop(boxes(100, 300, *objects), 1.7)
    assert crop.kept[0] == 1.0
    assert crop.lost == (1,)


def test_a_third_object_is_kept_where_the_second_cannot_be():
    crop = choose_crop(boxes(100, 300, (100, 0, 150, 100), (280, 0, 300, 100), (60, 0, 90, 100)), 1.0)
    assert crop.kept == (1.0, 0.0, 1.0)


def test_object_larger_than_the_window_keeps_its_most_pixels():
    crop = choose_crop(boxes(100, 300, (150, 0, 300, 100)), 1.0)
    assert crop.kept[0] == pytest.approx(100 / 150)


def test_crop_has_the_aspect_and_stays_inside_at_any_size():
    rng = np.random.default_rng(0)
    for _ in range(50):
        height, width = rng.integers(1, 60, 2)
        masks = rng.random((int(rng.integers(0, 4)), height, width)) < 0.1
        aspect = float(rng.uniform(0.05, 20))
        left, top, right, bottom = choose_crop(masks, aspect).box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (left, right) == (0, width) or (top, bottom) == (0, height)
        wanted = (right - left) / aspect if (left, right) == (0, width) else (bottom - top) * aspect
        found = bottom - top if (left, right) == (0, width) else right - left
        assert abs(found - wanted) <= 1 or found in (1, height, width)


def test_apply_cuts_the_window():
    picture = np.arange(300 * 100 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 300, 3)
    assert choose_crop(boxes(100, 300), 1.0).apply(picture).shape == (100, 100, 3)


@pytest.mark.parametrize(("text", "value"), [("16:9", 16 / 9), ("640x480", 4 / 3), ("1.5", 1.5)])
def test_aspects(text: str, value: float):
    assert parse_aspect(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "a:b", "0:1", "1:0", "1:2:3", "-1", "nan"])
def test_what_is_no_aspect_is_refused(text: str):
    with pytest.raises(ValueError, match="^aspect: expected such as 16:9"):
        parse_aspect(text)
