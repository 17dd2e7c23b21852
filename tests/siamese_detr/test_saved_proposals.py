"""Boxes saved by the published generator."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sor_ppa.siamese_detr.region_proposals import make_proposer
from sor_ppa.siamese_detr.saved_proposals import SavedProposals, read_proposals

from .published import make_cfg

BOXES = np.array([[0, 2, 30, 40], [5, 5, 9, 9]])
SCORES = np.array([[0.5], [0.25]])


def write(path: Path, content: Any, protocol: int = 3, core: str = "numpy._core") -> Path:
    """Save as ``np.save`` of some version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.empty((), object)
    array[()] = content
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickle.dumps(array, protocol).replace(b"numpy._core", core.encode()))
    return path


@pytest.mark.parametrize(("protocol", "core"), [(2, "numpy.core"), (3, "numpy.core"), (4, "numpy._core")])
def test_published_files_are_read(tmp_path: Path, protocol: int, core: str):
    file = write(tmp_path / "a.npy", {"box": BOXES, "score": SCORES}, protocol, core)
    boxes, scores = read_proposals(file)
    np.testing.assert_array_equal(boxes, BOXES)
    np.testing.assert_array_equal(scores, [0.5, 0.25])


@pytest.mark.parametrize("content", [BOXES.astype(np.float32), {"box": BOXES.astype(np.float32)}])
def test_boxes_alone_get_scores_of_zero(tmp_path: Path, content: Any):
    np.save(tmp_path / "a.npy", content)
    boxes, scores = read_proposals(tmp_path / "a.npy")
    np.testing.assert_array_equal(boxes, BOXES)
    np.testing.assert_array_equal(scores, [0, 0])


class Evil:
    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"box": BOXES[:, :3]}, r"expected numbers of shape \(N, 4\), found int64 of shape \(2, 3\)"),
        ({"box": BOXES.astype(bool)}, r"found bool of shape \(2, 4\)"),
        ({"boxes": BOXES}, "found nothing"),
        ({"box": BOXES[:, [2, 3, 0, 1]]}, "expected corners x1, y1, x2, y2 in pixels"),
        ({"box": BOXES, "score": SCORES[:1]}, r"expected 2 scores, found float64 of shape \(1, 1\)"),
        (BOXES[0], r"found int64 of shape \(4,\)"),
        (Evil(), "nothing was executed"),
    ],
)
def test_other_content_is_refused_in_one_line(tmp_path: Path, content: Any, message: str):
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(ValueError, match=message) as error:
        read_proposals(tmp_path / "a.npy")
    assert str(error.value).startswith(f"{tmp_path / 'a.npy'}: expected ")
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_refused(tmp_path: Path):
    file = write(tmp_path / "a.npy", {"box": BOXES})
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match="expected saved boxes, found a damaged pickle"):
        read_proposals(file)


@pytest.mark.parametrize("place", ["0001.npy", "train2017/0001.npy", "coco/train2017/0001.npy"])
def test_files_are_found_by_the_end_of_the_path_of_the_image(tmp_path: Path, place: str):
    write(tmp_path / place, {"box": BOXES, "score": SCORES})
    cfg = make_cfg("pretrain_conditional_100q_coco")
    cfg.INPUT.TWO_VIEWS.PROPOSALS.METHOD = "saved"
    cfg.INPUT.TWO_VIEWS.PROPOSALS.FOLDER = str(tmp_path)
    cfg.INPUT.TWO_VIEWS.PROPOSALS.MAX_BOXES = 1
    propose, settings = make_proposer(cfg)
    assert propose is not None
    assert settings["folder"] == str(tmp_path)
    np.testing.assert_array_equal(propose("data/coco/train2017/0001.jpg")[0], BOXES[:1])
    with pytest.raises(FileNotFoundError, match=r"expected 0002.npy for data/0002.jpg"):
        propose("data/0002.jpg")


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match=r"PROPOSALS.FOLDER: expected a folder of .npy files"):
        SavedProposals("none")
