"""Masks from clicks."""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from sor_ppa.serving.segmenting import Click, segment_by_clicks


def scene(
    height: int = 120, width: int = 160
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """A noisy picture with a red and a blue square, and their masks."""
    photo = np.random.default_rng(0).integers(80, 110, (height, width, 3), dtype=np.uint8)
    red, blue = np.zeros((2, height, width), bool)
    red[height // 4 : height // 2, width // 8 : width // 3] = True
    blue[height // 4 : height // 2, width // 3 : width // 2] = True
    photo[red] = (30, 30, 220)
    photo[blue] = (220, 30, 30)
    return photo, red, blue


def iou(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_a_click_finds_an_object() -> None:
    photo, red, _ = scene()
    assert iou(segment_by_clicks(photo, [Click(35, 45)]), red) > 0.95


def test_a_box_finds_an_object() -> None:
    photo, red, blue = scene()
    assert iou(segment_by_clicks(photo, [], box=(10, 20, 90, 70)), red | blue) > 0.95


def test_a_positive_click_adds_a_part() -> None:
    photo, red, blue = scene()
    assert iou(segment_by_clicks(photo, [Click(65, 45)], mask=red), red | blue) > 0.95


def test_a_negative_click_removes_a_part() -> None:
    photo, red, blue = scene()
    assert iou(segment_by_clicks(photo, [Click(65, 45, False)], mask=red | blue), red) > 0.95


def test_pixels_far_from_the_clicks_stay() -> None:
    photo, _, _ = scene(600, 800)
    mask = cv2.circle(np.zeros((600, 800), np.uint8), (400, 300), 250, 1, -1) > 0
    found = segment_by_clicks(photo, [Click(160, 200, False)], mask=mask)
    assert np.array_equal(found[:, 400:], mask[:, 400:])


def test_clicks_on_the_border_and_outside_do_no_harm() -> None:
    photo, red, _ = scene()
    for click in (Click(0, 0), Click(160, 120), Click(-50, 500, False)):
        assert segment_by_clicks(photo, [click], mask=red).shape == red.shape


def test_the_answer_for_a_photo_of_1000_pixels_takes_less_than_half_a_second() -> None:
    photo, red, _ = scene(750, 1000)
    start = time.process_time()
    segment_by_clicks(photo, [Click(230, 280)])
    segment_by_clicks(photo, [Click(400, 280)], mask=red)
    assert time.process_time() - start < 2 * 0.5
