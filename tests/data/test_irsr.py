from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sor_ppa.data import DatasetError
from sor_ppa.data.masks import segmentation_mask
from tests.data.folders import edit, make_irsr_folder, make_sifr_folder
from tests.data.test_reader import ANNOTATIONS, change_first, ranks, read


@pytest.mark.parametrize("empty_rgb", [True, False])
def test_irsr_reads_the_folder_that_holds_the_images(empty_rgb: bool, tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    (root / "Images/train/rgb").rename(root / "Images/train/image")
    if empty_rgb:
        (root / "Images/train/rgb").mkdir()
    assert len(read("irsr", root)) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[1]["rank"].pop(), r"record 1 .*field rank: expected 2 ranks .*, found 1"),
        (lambda c: c[0]["rank"].__setitem__(2, "1"), r"field rank\[2\]: expected a whole number, found '1'"),
        (lambda c: c[0]["rank"].__setitem__(2, 0.5), r"field rank\[2\]: expected a whole number, found 0.5"),
        (lambda c: c[0].update(annotations=None), r"field annotations: expected a list, found None"),
    ],
)
def test_irsr_names_what_is_wrong(change: Callable[[Any], object], message: str, tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    edit(root / ANNOTATIONS["irsr"], change)
    with pytest.raises(DatasetError, match=message):
        read("irsr", root)


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
    edit(root / ANNOTATIONS["sifr"], lambda content: content[2].update(image_id="x"))
    with pytest.raises(DatasetError, match=r"record 2 .*field image_id: expected a whole number, found 'x'"):
        read("sifr", root)
