"""What one format can say, others can say as well, and back."""

from __future__ import annotations

import runpy
from pathlib import Path

import cv2
import numpy as np
import pytest

from sor_ppa.data import DatasetError, ImageRecord, ObjectRecord
from sor_ppa.data.builtin import FORMATS
from sor_ppa.data.export import WRITERS, write_records
from sor_ppa.data.masks import segmentation_mask
from tests.data.folders import generated_picture, make_assr_folder
from tests.data.test_reader import MAKERS

FIVE = [(2, 1, 0), (0, 1), (4, 3, 2, 1, 0), (0,)]


def make(kind: str, root: Path) -> Path:
    if kind == "assr":
        values = [tuple((10 - max(row) + rank) / 10 for rank in row) for row in FIVE]
        return make_assr_folder(root, values=values)
    return MAKERS[kind](root, ranks=FIVE)


def same(first: list[ImageRecord], second: list[ImageRecord], least_iou: float) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.height, a.width) == (b.height, b.width)
        assert Path(a.file_name).resolve() == Path(b.file_name).resolve()
        ranked = [sorted(r.objects, key=lambda item: item.rank) for r in (a, b)]
        assert [item.rank for item in ranked[0]] == [item.rank for item in ranked[1]]
        for x, y in zip(*ranked, strict=True):
            masks = [segmentation_mask(item.segmentation, a.height, a.width) for item in (x, y)]
            assert (masks[0] & masks[1]).sum() >= least_iou * (masks[0] | masks[1]).sum()
            assert np.abs(np.subtract(x.box, y.box)).max() <= 2


@pytest.mark.parametrize("there", WRITERS)
@pytest.mark.parametrize("here", [*MAKERS, "assr"])
def test_there_and_back(here: str, there: str, tmp_path: Path) -> None:
    original = FORMATS[here].read(make(here, tmp_path / "here" / "set"), "train")
    write_records(original, tmp_path / "there" / "set", there, "train")
    converted = FORMATS[there].read(tmp_path / "there" / "set", "train")
    same(original, converted, 0.9 if there == "painted" else 1.0)
    write_records(converted, tmp_path / "back" / "set", here, "train")
    same(original, FORMATS[here].read(tmp_path / "back" / "set", "train"), 0.9)


def test_coco_keeps_everything(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path / "here")
    original = FORMATS["assr"].read(root, "train", keep_rankless=True)
    write_records(original, tmp_path / "there", "coco", "train")
    converted = FORMATS["coco"].read(tmp_path / "there", "train", keep_rankless=True)
    for a, b in zip(original, converted, strict=True):
        assert a.objects == b.objects
        assert a.image_id == b.image_id


def record(tmp_path: Path, *objects: ObjectRecord, name: str = "a.jpg") -> ImageRecord:
    (tmp_path / name).write_bytes(b"")
    return ImageRecord(str(tmp_path / name), 20, 20, objects, 0)


def square(rank: int, iscrowd: bool = False) -> ObjectRecord:
    return ObjectRecord((1, 1, 5, 5), [[1, 1, 5, 1, 5, 5, 1, 5]], rank, iscrowd)


@pytest.mark.parametrize(
    ("kind", "objects", "name", "message"),
    [
        ("assr", [square(rank) for rank in range(6)], "a.jpg", r"a\.jpg: ASSR cannot hold more than 5 ranks"),
        ("assr", [square(-1, True)], "a.jpg", "cannot hold crowds"),
        ("assr", [], "a.png", r"cannot hold an image called a\.png"),
        ("irsr", [square(-1)], "a.jpg", "IRSR cannot hold objects without a rank"),
        ("sifr", [square(-1)], "a.jpg", "SIFR cannot hold objects without a rank"),
        ("seqrank", [square(-1, True)], "a.jpg", "SeqRank cannot hold crowds"),
    ],
)
def test_what_does_not_fit_is_refused(
    kind: str, objects: list[ObjectRecord], name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=message):
        write_records([record(tmp_path, *objects, name=name)], tmp_path / "set", kind, "train")


@pytest.mark.parametrize("kind", ["assr", "seqrank"])
def test_jpeg_images_get_the_suffix_of_the_format(kind: str, tmp_path: Path) -> None:
    image = tmp_path / "A b.JPEG"
    cv2.imwrite(str(image), generated_picture(0, 20, 20))
    found = ImageRecord(str(image), 20, 20, (square(0),), 0)
    write_records([found], tmp_path / "set", kind, "train")
    (found,) = FORMATS[kind].read(tmp_path / "set", "train")
    assert Path(found.file_name).name == "A b.jpg"


def test_values_that_do_not_begin_at_the_top_come_back(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "here", values=[(0.9, 0.7)])
    original = FORMATS["assr"].read(tmp_path / "here", "train")
    write_records(original, tmp_path / "coco", "coco", "train")
    write_records(FORMATS["coco"].read(tmp_path / "coco", "train"), tmp_path / "there", "assr", "train")
    (found,) = FORMATS["assr"].read(tmp_path / "there", "train")
    assert [(item.rank, item.label) for item in found.objects] == [(1, 3), (0, 1)]


def test_images_that_are_there_are_not_lost(tmp_path: Path) -> None:
    other = tmp_path / "set/images/train/a.jpg"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another photograph")
    with pytest.raises(DatasetError, match="found another image there already"):
        write_records([record(tmp_path, square(0))], tmp_path / "set", "coco", "train")
    assert other.read_bytes() == b"another photograph"


@pytest.mark.parametrize("kind", ["irsr", "sifr"])
def test_ranked_only_leaves_the_others_out(kind: str, tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "here")
    original = FORMATS["assr"].read(tmp_path / "here", "train", keep_rankless=True)
    write_records(original, tmp_path / "there", kind, "train", ranked_only=True)
    assert sum(len(r.objects) for r in FORMATS[kind].read(tmp_path / "there", "train")) == 11


def test_equal_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    records = [record(tmp_path), record(tmp_path / "b")]
    with pytest.raises(DatasetError, match="found another image called a"):
        write_records(records, tmp_path / "set", "coco", "train")


@pytest.mark.parametrize("how", ["symlink", "hardlink", "copy"])
def test_ways_to_bring_images(how: str, tmp_path: Path) -> None:
    original = FORMATS["irsr"].read(make("irsr", tmp_path / "here"), "train")
    write_records(original, tmp_path / "there", "coco", "train", images=how)
    target = tmp_path / "there/images/train/train_000.jpg"
    assert target.read_bytes() == Path(original[0].file_name).read_bytes()
    assert target.is_symlink() == (how == "symlink")


tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "convert_dataset.py"))["main"]


def convert(*arguments: str) -> int:
    return tool([*arguments])


def test_converted_data_is_registered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make("irsr", tmp_path / "IRSR")
    root = ("--root", str(tmp_path))
    assert convert("irsr_train", *root, "--output", str(tmp_path / "Mine")) == 0
    assert "4 images, 11 objects as coco" in capsys.readouterr().out
    assert convert("mine_train", *root, "--to", "sifr", "--output", str(tmp_path / "S")) == 0
    assert len(FORMATS["sifr"].read(tmp_path / "S", "train")) == 4


def test_a_dataset_does_not_overwrite_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make("irsr", tmp_path / "IRSR")
    before = (root / "Annotations/train.pkl").read_bytes()
    assert convert("irsr_train", "--root", str(tmp_path), "--to", "irsr", "--output", str(root)) == 1
    assert "is irsr_train itself" in capsys.readouterr().err
    assert (root / "Annotations/train.pkl").read_bytes() == before
