from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sor_ppa.data import DatasetError
from sor_ppa.data.coco import read_coco_file
from tests.data.folders import DEFAULT_RANKS, edit, make_coco_folder, make_seqrank_folder
from tests.data.test_reader import ANNOTATIONS, change_first, ranks, read


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_coco_folder(tmp_path / "set")


def test_lower_can_be_more_salient(root: Path) -> None:
    edit(root / ANNOTATIONS["coco"], lambda c: c.update(info={"rank_order": "lower is more salient"}))
    assert ranks(read("coco", root))[:2] == [[0, 1, 2], [1, 0]]


def test_crowds_are_kept_without_rank(root: Path) -> None:
    change_first("coco", root, {"iscrowd": 1})
    first = read("coco", root)[0].objects
    assert [(item.rank, item.iscrowd) for item in first] == [(-1, True), (1, False), (0, False)]


def test_objects_without_rank_are_left_out(root: Path) -> None:
    change_first("coco", root, {"rank": None})
    assert ranks(read("coco", root))[0] == [1, 0]
    assert ranks(read("coco", root, keep_rankless=True))[0] == [-1, 1, 0]


def test_ranks_may_be_text(root: Path) -> None:
    change_first("coco", root, {"rank": "2"})
    assert ranks(read("coco", root))[0] == [2, 1, 0]


def test_a_file_at_another_place_is_read(root: Path, tmp_path: Path) -> None:
    expected = read("coco", root)
    (root / ANNOTATIONS["coco"]).rename(tmp_path / "mine.json")
    assert read_coco_file(tmp_path / "mine.json", root, images=root / "images" / "train") == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][1].update(id=7), r"images\[1\]: field id: .* found 7 a second time"),
        (lambda c: c["images"][1].update(id="a"), r"images\[1\].*expected a whole id"),
        (
            lambda c: c["annotations"][3].update(image_id=99),
            r"annotations\[3\].*expected the id .*, found 99",
        ),
        (
            lambda c: c["annotations"][0].update(rank="top"),
            r"annotations\[0\]\.rank: expected .* found 'top'",
        ),
        (lambda c: c["annotations"][0].update(bbox=[1, 2]), r"annotations\[0\]\.bbox: .*found \[1, 2\]"),
        (lambda c: c.update(info={"rank_order": "up"}), r"info\.rank_order: expected .*, found 'up'"),
        (lambda c: c.pop("images"), "field images: expected a list, found None"),
    ],
)
def test_coco_names_what_is_wrong(change: Callable[[Any], None], message: str, root: Path) -> None:
    edit(root / ANNOTATIONS["coco"], change)
    with pytest.raises(DatasetError, match=message):
        read("coco", root)


def test_seqrank_keeps_objects_that_are_not_salient_on_request(tmp_path: Path) -> None:
    root = make_seqrank_folder(tmp_path / "set")
    assert ranks(read("seqrank", root, keep_rankless=True)) == [[*row, -1] for row in DEFAULT_RANKS]


@pytest.mark.parametrize("change", [{"category_id": -1}, {"category_id": 1.5}, {"category_id": None}])
def test_seqrank_names_wrong_ranks(change: dict[str, Any], tmp_path: Path) -> None:
    root = make_seqrank_folder(tmp_path / "set")
    change_first("seqrank", root, change)
    with pytest.raises(DatasetError, match=r"record 0 .*field annotations\[0\]: expected a whole number"):
        read("seqrank", root)
