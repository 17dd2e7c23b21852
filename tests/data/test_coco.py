from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sor_ppa.data import DatasetError
from sor_ppa.data.coco import read_coco_file
from sor_ppa.data.masks import segmentation_mask
from tests.data.folders import (
    DEFAULT_RANKS,
    edit,
    make_coco_folder,
    make_irsr_folder,
    make_seqrank_folder,
    make_sifr_folder,
)
from tests.data.test_reader import ANNOTATIONS, MAKERS, change_first, ranks, read


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
    ("kind", "change", "message"),
    [
        ("coco", lambda c: c["images"][1].update(id=7), r"record 1 .*field id: .* found 7 a second time"),
        ("coco", lambda c: c["images"][1].update(id="a"), r"record 1 .*field id: expected a whole number"),
        ("coco", lambda c: c["annotations"][3].update(image_id=99), r"annotations\[3\].*an image, found 99"),
        ("coco", lambda c: c["annotations"][0].update(rank="top"), r"\[0\]\.rank: expected .* found 'top'"),
        ("coco", lambda c: c["annotations"][0].update(bbox=[1, 2]), r"\[0\]\.bbox: .*found \[1, 2\]"),
        ("coco", lambda c: c.update(info={"rank_order": "up"}), r"info\.rank_order: expected .*, found 'up'"),
        ("coco", lambda c: c.pop("images"), "field images: expected a list, found None"),
        ("irsr", lambda c: c[1]["rank"].pop(), r"record 1 .*field rank: expected 2 ranks, .* found 1"),
        (
            "irsr",
            lambda c: c[0]["rank"].__setitem__(2, "1"),
            r"rank\[2\]: expected .*, found '1'",
        ),
        (
            "irsr",
            lambda c: c[0]["rank"].__setitem__(2, 0.5),
            r"rank\[2\]: expected .*, found 0.5",
        ),
        ("irsr", lambda c: c[0].update(annotations=None), "field annotations: expected a list, found None"),
        ("sifr", lambda c: c[2].update(image_id="x"), r"record 2 .*field image_id: .* found 'x'"),
        *(
            (
                "seqrank",
                lambda c, rank=rank: c["data"][0]["annotations"][0].update(category_id=rank),
                r"record 0 .*field annotations\[0\]: expected a whole number",
            )
            for rank in (-1, 1.5, None)
        ),
    ],
)
def test_what_is_wrong_is_named(
    kind: str, change: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    root = MAKERS[kind](tmp_path / "set")
    edit(root / ANNOTATIONS[kind], change)
    with pytest.raises(DatasetError, match=message):
        read(kind, root)


def test_seqrank_keeps_objects_that_are_not_salient_on_request(tmp_path: Path) -> None:
    root = make_seqrank_folder(tmp_path / "set")
    assert ranks(read("seqrank", root, keep_rankless=True)) == [[*row, -1] for row in DEFAULT_RANKS]


@pytest.mark.parametrize("empty_rgb", [True, False])
def test_irsr_reads_the_folder_that_holds_the_images(empty_rgb: bool, tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    (root / "Images/train/rgb").rename(root / "Images/train/image")
    if empty_rgb:
        (root / "Images/train/rgb").mkdir()
    assert len(read("irsr", root)) == 5


def test_irsr_keeps_ties_and_closes_gaps(tmp_path: Path) -> None:
    assert ranks(read("irsr", make_irsr_folder(tmp_path, ranks=[(7, 3, 3, 0)]))) == [[2, 1, 1, 0]]


def test_irsr_joins_masks_of_several_kinds(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path, ranks=[(0,)])
    (record,) = read("irsr", root)
    height, width = record.height, record.width
    square = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
    rle = {"size": [height, width], "counts": [0, 5, height * width - 5]}
    change_first("irsr", root, {"segmentation": [square, rle]})
    mask = segmentation_mask(read("irsr", root)[0].objects[0].segmentation, height, width)
    assert mask[0:5, 0].all()
    assert mask[5, 5]
    assert mask.sum() == 105


def test_pickles_may_hold_tuples(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    expected = read("irsr", root)
    polygon = tuple(expected[0].objects[0].segmentation[0])  # type: ignore[index]
    change_first("irsr", root, {"segmentation": (polygon,)})
    assert read("irsr", root) == expected


def test_sifr_reads_ids_that_are_text(tmp_path: Path) -> None:
    root = make_sifr_folder(tmp_path)
    edit(root / ANNOTATIONS["sifr"], lambda content: content[0].update(image_id="000000001270"))
    assert read("sifr", root)[0].image_id == 1270
