"""What datasets hold in the wild: other suffixes, rounded values, broken run lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as mask_util

from sor_ppa.data.assr import assr_label
from sor_ppa.data.images import image_finder
from sor_ppa.data.masks import is_number, rle_problem


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_runs_of_every_mask_are_counted(share: float) -> None:
    generator = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 5), (40, 300)):
        mask = np.asfortranarray(generator.random((height, width)) < share, dtype=np.uint8)
        code = mask_util.encode(mask)
        assert rle_problem(code) is None
        assert rle_problem({**code, "counts": code["counts"].decode()}) is None
        assert rle_problem({**code, "size": [height + 1, width]}) is not None


@pytest.mark.parametrize(
    "code",
    [
        {"size": [4, 4], "counts": [3, 4]},
        {"size": [4, 4], "counts": [20, -4]},
        {"size": [4, 4], "counts": "~~~"},
        {"size": [4], "counts": [16]},
        {"size": [4, 4]},
    ],
)
def test_run_lengths_that_do_not_cover_the_mask_are_refused(code: dict) -> None:
    assert "found" in str(rle_problem(code))


def test_images_with_another_suffix_are_found(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.JPG", "c.png", "d.jpeg"):
        (tmp_path / name).touch()
    find = image_finder(tmp_path)
    assert [Path(find(n)).name for n in "abcd"] == ["a.jpg", "b.JPG", "c.png", "d.jpeg"]
    assert Path(find("b.JPG")).name == "b.JPG"
    assert Path(find("absent")).name == "absent.jpg"


@pytest.mark.parametrize(("value", "label"), [(1.0, 4), (0.9, 3), (0.8, 2), (0.7, 1), (0.6, 0), (0.5, None)])
def test_labels_of_values_that_were_float32(value: float, label: int | None) -> None:
    assert assr_label(value) == label
    assert assr_label(float(np.float32(value))) == label


def test_numbers_beyond_any_picture_are_no_numbers() -> None:
    assert is_number(2**62)
    assert not is_number(10**400)
    assert not is_number(float("inf"))
    assert not is_number(True)
