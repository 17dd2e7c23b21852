"""Mean boundary accuracy and the saliency evaluator."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sor_ppa.evaluation.boundary import boundary_accuracy, boundary_radii, inner_band
from sor_ppa.evaluation.sod_evaluator import SODEvaluator


def disc(radius: float, size: int = 200) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < radius**2


def test_a_perfect_map_scores_one() -> None:
    assert boundary_accuracy(disc(50), disc(50)) == 1.0


def test_accuracy_falls_with_distance_from_the_edge() -> None:
    scores = [boundary_accuracy(disc(50 + shift), disc(50)) for shift in (0, 1, 2, 4)]
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


def test_unusable_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="gt_mask: expected the shape of saliency_map"):
        boundary_accuracy(disc(5, 20), disc(5, 30))
    with pytest.raises(ValueError, match=r"saliency_map: expected shape \(H, W\)"):
        boundary_accuracy(np.zeros((2, 2, 2)), disc(5))


def test_the_evaluator_scores_and_writes(tmp_path: Path) -> None:
    mask = disc(40, 100)
    cv2.imwrite(str(tmp_path / "a.png"), mask.astype(np.uint8) * 255)
    evaluator = SODEvaluator("set", output_dir=tmp_path / "out", distributed=False)
    evaluator.reset()
    given = {"image_id": 0, "file_name": "a.jpg", "mask_file_name": str(tmp_path / "a.png")}
    evaluator.process([given], [{"saliency": torch.from_numpy(mask.astype(np.float32))}])
    values = evaluator.evaluate()["saliency"]
    assert values["mae"] == 0.0
    assert values["mba"] == 1.0
    assert values["s_measure"] > 0.99
    assert json.loads((tmp_path / "out" / "sod_metrics.json").read_text())["images"] == 1
    assert cv2.imread(str(tmp_path / "out" / "maps" / "a.png"), 0).max() == 255


def test_the_evaluator_names_what_does_not_fit(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((5, 6), np.uint8))
    evaluator = SODEvaluator("set", distributed=False)
    given = {"image_id": 0, "file_name": "a.jpg", "mask_file_name": str(tmp_path / "a.png")}
    with pytest.raises(ValueError, match=r"a\.jpg: expected a map of size \(5, 6\), found \(6, 5\)"):
        evaluator.process([given], [{"saliency": torch.zeros(6, 5)}])
    with pytest.raises(ValueError, match=r"a\.jpg: expected the output saliency"):
        evaluator.process([given], [{}])
    assert not evaluator.evaluate()
