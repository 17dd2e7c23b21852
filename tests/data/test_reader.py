"""The formats read the same five images into the same records."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sor_ppa.data import DatasetError, ImageRecord
from sor_ppa.data.builtin import FORMATS
from sor_ppa.data.masks import segmentation_mask
from tests.data.folders import (
    DEFAULT_RANKS,
    edit,
    make_coco_folder,
    make_irsr_folder,
    make_painted_folder,
    make_seqrank_folder,
    make_sifr_folder,
)

MAKERS: dict[str, Callable[..., Path]] = {
    "irsr": make_irsr_folder,
    "sifr": make_sifr_folder,
    "seqrank": make_seqrank_folder,
    "coco": make_coco_folder,
    "painted": make_painted_folder,
}
ANNOTATIONS = {
    "irsr": "Annotations/train.pkl",
    "sifr": "train/train_annotations.json",
    "seqrank": "set_train.json",
    "coco": "annotations/rank_train.json",
}


def read(kind: str, root: Path, **options: Any) -> list[ImageRecord]:
    return FORMATS[kind].read(root, "train", **options)


def ranks(records: list[ImageRecord]) -> list[list[int]]:
    return [[item.rank for item in record.objects] for record in records]


@pytest.mark.parametrize("kind", MAKERS)
def test_ranks_are_dense_and_higher_is_more_salient(kind: str, tmp_path: Path) -> None:
    records = read(kind, MAKERS[kind](tmp_path / "set"))
    assert ranks(records) == [list(row) for row in DEFAULT_RANKS]
    assert len({record.image_id for record in records}) == len(records)


@pytest.mark.parametrize("kind", MAKERS)
def test_sizes_and_masks_fit_the_images(kind: str, tmp_path: Path) -> None:
    for record in read(kind, MAKERS[kind](tmp_path / "set")):
        image = cv2.imread(record.file_name)
        assert image is not None
        assert image.shape[:2] == (record.height, record.width)
        for item in record.objects:
            x1, y1, x2, y2 = item.box
            mask = segmentation_mask(item.segmentation, record.height, record.width)
            inside = mask[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))]
            assert 0 < inside.sum() == mask.sum()
            assert inside.sum() > 0.6 * (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize(("kind", "first"), [("sifr", 100), ("coco", 7)])
def test_ids_of_the_file_are_kept(kind: str, first: int, tmp_path: Path) -> None:
    records = read(kind, MAKERS[kind](tmp_path / "set"))
    assert [record.image_id for record in records] == list(range(first, first + 5))


@pytest.mark.parametrize(("content", "found"), [(None, "no such image"), (b"no picture", "a broken file")])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_missing_or_broken_image_is_named(
    kind: str, content: bytes | None, found: str, tmp_path: Path
) -> None:
    root = MAKERS[kind](tmp_path / "set")
    photo = next(root.rglob("train_003.jpg"))
    photo.unlink()
    if content is not None:
        photo.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"train_003.*expected an image, found {found}: .*train_003\.jpg"):
        read(kind, root)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"\x80\x04N.", b"null", b"[1]", b"{}", b"[{}]", b"garbage\xff", b"[" * 100_000, b"9" * 5000],
)
@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_a_missing_or_broken_annotation_file_is_one_line(
    kind: str, content: bytes | None, tmp_path: Path
) -> None:
    path = MAKERS[kind](tmp_path / "set") / ANNOTATIONS[kind]
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read(kind, tmp_path / "set")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def change_first(kind: str, root: Path, change: dict[str, Any]) -> None:
    """Change the first annotation of a folder."""
    edit(
        root / ANNOTATIONS[kind],
        lambda content: {
            "coco": lambda: content["annotations"],
            "seqrank": lambda: content["data"][0]["annotations"],
        }.get(kind, lambda: content[0]["annotations"])()[0].update(change),
    )


@pytest.mark.parametrize(
    "mask",
    [
        {"size": [10, 10], "counts": [5, 3]},
        {"size": [10, 10], "counts": "5"},
        {"size": [10, 10], "counts": None},
        {"size": [10], "counts": [100]},
        {"size": [10, 10], "counts": [50, 10, 40]},  # valid, but of another size than the image
        [[1e9, 0, 5, 5, 0, 1e9]],
        [[10**400, 0, 5, 5, 0, 9]],
        [[1.0, 2.0, 3.0, 4.0]],
        None,
    ],
    ids=lambda mask: str(mask)[:40],
)
@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_only_the_object_of_an_unusable_mask_is_left_out(
    kind: str, mask: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = MAKERS[kind](tmp_path / "set")
    change_first(kind, root, {"segmentation": mask})
    assert ranks(read(kind, root)) == [[1, 0], *(list(row) for row in DEFAULT_RANKS[1:])]
    assert len(caplog.records) >= 1


def test_the_size_of_the_image_overrides_that_of_the_file(tmp_path: Path) -> None:
    root = make_seqrank_folder(tmp_path / "set")
    size = read("seqrank", root)[0].height
    edit(root / ANNOTATIONS["seqrank"], lambda content: content["data"][0].update(height=5))
    assert read("seqrank", root)[0].height == size


def test_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    root = make_sifr_folder(tmp_path)
    (root / ANNOTATIONS["sifr"]).write_bytes(b"\xef\xbb\xbf[]")
    assert read("sifr", root) == []
