from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sor_ppa.data import DatasetError
from sor_ppa.data.painted import painted_objects
from tests.data.folders import DEFAULT_RANKS, make_painted_folder
from tests.data.test_reader import ranks, read


@pytest.mark.parametrize("masks", ["folder", None])
def test_maps_with_a_folder_of_masks_or_without_masks(masks: str | None, tmp_path: Path) -> None:
    root = make_painted_folder(tmp_path, masks=masks)
    assert [sorted(row) for row in ranks(read("painted", root))] == [sorted(row) for row in DEFAULT_RANKS]


def test_masks_separate_instances_of_equal_level() -> None:
    painted = np.zeros((10, 20), np.uint8)
    painted[2:5, 2:6] = painted[2:5, 12:16] = 200
    masks = np.zeros((3, 10, 20), bool)
    masks[0, 2:5, 2:6] = masks[1, 2:5, 12:16] = masks[2, 8:, :] = True
    assert [item.rank for item in painted_objects(painted)] == [200]
    assert [item.rank for item in painted_objects(painted, masks)] == [200, 200, None]


@pytest.mark.parametrize(
    ("file", "image", "message"),
    [
        ("gt/train/train_001.png", np.arange(243).reshape(9, 9, 3), "expected gray levels, found colors"),
        ("masks/train/train_001.png", np.zeros((3, 4)), "expected .* as the map has, found 3x4"),
    ],
)
def test_unusable_maps_are_named(file: str, image: np.ndarray, message: str, tmp_path: Path) -> None:
    root = make_painted_folder(tmp_path)
    cv2.imwrite(str(root / file), image.astype(np.uint8))
    with pytest.raises(DatasetError, match=rf"train_001\.png: {message}"):
        read("painted", root)


def test_a_folder_without_maps_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected painted maps"):
        read("painted", tmp_path)
