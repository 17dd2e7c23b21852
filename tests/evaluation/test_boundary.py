"""Mean boundary accuracy and the bands of boundary IoU."""

from __future__ import annotations

import numpy as np
import pytest

from sor_ppa.evaluation.boundary import boundary_accuracy, boundary_radii, inner_band


def disc(radius: float, size: int = 200) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < radius**2


def test_accuracy_is_one_for_a_perfect_map_and_falls_with_distance_from_the_edge() -> None:
    scores = [boundary_accuracy(disc(50 + shift), disc(50)) for shift in (0, 1, 2, 4)]
    assert scores[0] == 1.0
    assert scores == sorted(scores, reverse=True)  # type: ignore[type-var]
    assert scores[-1] is not None
    assert scores[-1] < 0.6


def test_radii_are_the_published_ones() -> None:
    assert boundary_radii(480, 640) == [1, 1, 2, 2, 3]
    assert boundary_radii(1080, 1920) == [1, 2, 4, 6, 8]
    assert boundary_radii(20, 30) == [1, 1, 1, 1, 1]


def test_bytes_count_from_129() -> None:
    truth = disc(50)
    assert boundary_accuracy(np.where(truth, 129, 128).astype(np.uint8), truth) == 1.0
    assert boundary_accuracy(np.where(truth, 128, 0).astype(np.uint8), truth) < 0.7


def test_ground_truth_without_an_edge_has_no_value() -> None:
    assert boundary_accuracy(disc(50), np.zeros((200, 200), bool)) is None


def test_the_inner_band_is_as_wide_as_its_share_of_the_diagonal() -> None:
    mask = np.ones((30, 40), np.uint8)
    mask[:, 30:] = 0
    band = inner_band(mask, 0.06)  # 0.06 * 50 pixels
    assert band[15].tolist() == [1] * 3 + [0] * 24 + [1] * 3 + [0] * 10


@pytest.mark.parametrize(
    ("saliency_map", "message"),
    [
        (disc(5, 20), "gt_mask: expected the shape of saliency_map"),
        (np.zeros((2, 2, 2)), r"saliency_map: expected \(H, W\) bool, uint8 or float"),
    ],
)
def test_unusable_arrays_are_refused(saliency_map: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boundary_accuracy(saliency_map, disc(5, 30))
