"""Every format of five images is read into the same records."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as mask_util

from sor_ppa.data import DatasetError, ImageRecord
from sor_ppa.data.formats import FORMATS
from sor_ppa.data.masks import rle_problem, segmentation_mask
from sor_ppa.data.painted import painted_objects
from tests.data.folders import (
    DEFAULT_RANKS,
    make_coco_folder,
    make_irsr_folder,
    make_painted_folder,
    make_seqrank_folder,
    make_sifr_folder,
)

MAKERS: dict[str, Callable[[Path], Path]] = {
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
    root = MAKERS[kind](tmp_path / "set")
    assert ranks(read(kind, root)) == [list(row) for row in DEFAULT_RANKS]


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


@pytest.mark.parametrize("kind", MAKERS)
def test_ids_are_unique(kind: str, tmp_path: Path) -> None:
    records = read(kind, MAKERS[kind](tmp_path / "set"))
    assert len({record.image_id for record in records}) == len(records)


@pytest.mark.parametrize("kind", ["sifr", "coco"])
def test_ids_of_the_file_are_kept(kind: str, tmp_path: Path) -> None:
    first = {"sifr": 100, "coco": 7}[kind]
    records = read(kind, MAKERS[kind](tmp_path / "set"))
    assert [record.image_id for record in records] == list(range(first, first + 5))


def photographs(root: Path) -> list[Path]:
    return sorted(root.rglob("train_*.jpg"))


@pytest.mark.parametrize("kind", MAKERS)
def test_missing_image_is_named(kind: str, tmp_path: Path) -> None:
    root = MAKERS[kind](tmp_path / "set")
    photographs(root)[3].unlink()
    with pytest.raises(DatasetError, match=r"train_003.*no such image: .*train_003\.jpg"):
        read(kind, root)


@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_missing_annotation_file_is_named(kind: str, tmp_path: Path) -> None:
    root = MAKERS[kind](tmp_path / "set")
    (root / ANNOTATIONS[kind]).unlink()
    with pytest.raises(DatasetError, match=ANNOTATIONS[kind].replace(".", r"\.")):
        read(kind, root)


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"null", b"[1]", b"{}", b"[{}]", b"garbage\xff"])
@pytest.mark.parametrize("kind", ANNOTATIONS)
def test_broken_annotation_file_is_one_line(kind: str, content: bytes, tmp_path: Path) -> None:
    root = MAKERS[kind](tmp_path / "set")
    (root / ANNOTATIONS[kind]).write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        read(kind, root)
    assert ANNOTATIONS[kind].rsplit("/", 1)[-1] in str(caught.value)
    assert "\n" not in str(caught.value)


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_pickle(path: Path, change: Callable[[Any], None]) -> None:
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))


def test_irsr_reads_the_other_image_folder(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    (root / "Images/train/rgb").rename(root / "Images/train/image")
    assert len(read("irsr", root)) == 5


def test_irsr_counts_ranks(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    change_pickle(root / ANNOTATIONS["irsr"], lambda content: content[1]["rank"].pop())
    with pytest.raises(DatasetError, match=r"record 1 .*field rank: found 1 ranks, expected 2"):
        read("irsr", root)


@pytest.mark.parametrize("rank", ["1", 0.5, [1]])
def test_irsr_names_wrong_ranks(rank: object, tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    change_pickle(root / ANNOTATIONS["irsr"], lambda content: content[0]["rank"].__setitem__(2, rank))
    with pytest.raises(DatasetError, match=r"field rank\[2\]: found"):
        read("irsr", root)


def test_irsr_keeps_ties_and_closes_gaps(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path, ranks=[(7, 3, 3, 0)])
    assert ranks(read("irsr", root)) == [[2, 1, 1, 0]]


def test_irsr_joins_masks_of_several_kinds(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path, ranks=[(0,)])
    (record,) = read("irsr", root)
    height, width = record.height, record.width
    square = [2.0, 2.0, 12.0, 2.0, 12.0, 12.0, 2.0, 12.0]
    counts = [0, 5, height * width - 5]
    rle = {"size": [height, width], "counts": counts}
    change_pickle(
        root / ANNOTATIONS["irsr"],
        lambda content: content[0]["annotations"][0].update(segmentation=[square, rle]),
    )
    mask = segmentation_mask(read("irsr", root)[0].objects[0].segmentation, height, width)
    assert mask[0:5, 0].all()
    assert mask[5, 5]
    assert mask.sum() == 105


def test_sifr_names_wrong_ids(tmp_path: Path) -> None:
    root = make_sifr_folder(tmp_path)
    change_json(root / ANNOTATIONS["sifr"], lambda content: content[2].update(image_id="x"))
    with pytest.raises(DatasetError, match=r"record 2 .*field image_id: found 'x'"):
        read("sifr", root)


def test_seqrank_keeps_what_is_not_salient_on_request(tmp_path: Path) -> None:
    root = make_seqrank_folder(tmp_path / "set")
    assert ranks(read("seqrank", root, keep_rankless=True)) == [[*row, -1] for row in DEFAULT_RANKS]


def test_seqrank_believes_the_image_about_its_size(tmp_path: Path) -> None:
    root = make_seqrank_folder(tmp_path / "set")
    size = read("seqrank", root)[0].height
    change_json(root / ANNOTATIONS["seqrank"], lambda content: content["data"][0].update(height=5))
    assert read("seqrank", root)[0].height == size


def test_coco_lower_can_be_more_salient(tmp_path: Path) -> None:
    root = make_coco_folder(tmp_path / "set")
    info = {"rank_order": "lower is more salient"}
    change_json(root / ANNOTATIONS["coco"], lambda content: content.update(info=info))
    assert ranks(read("coco", root))[:2] == [[0, 1, 2], [1, 0]]


def test_coco_keeps_crowds_without_rank(tmp_path: Path) -> None:
    root = make_coco_folder(tmp_path / "set")
    change_json(root / ANNOTATIONS["coco"], lambda content: content["annotations"][0].update(iscrowd=1))
    first = read("coco", root)[0].objects
    assert [(item.rank, item.iscrowd) for item in first] == [(-1, True), (1, False), (0, False)]


def test_coco_leaves_out_what_has_no_rank(tmp_path: Path) -> None:
    root = make_coco_folder(tmp_path / "set")
    change_json(root / ANNOTATIONS["coco"], lambda content: content["annotations"][0].pop("rank"))
    assert ranks(read("coco", root))[0] == [1, 0]
    assert ranks(read("coco", root, keep_rankless=True))[0] == [-1, 1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][1].update(id=7), r"images\[1\]: field id: found 7 a second time"),
        (lambda c: c["images"][1].update(id="a"), r"images\[1\].*expected a whole id"),
        (lambda c: c["annotations"][3].update(image_id=99), r"annotations\[3\].*found 99, expected the id"),
        (lambda c: c["annotations"][0].update(rank="top"), r"annotations\[0\]\.rank: found 'top'"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2]), r"annotations\[0\]\.bbox: found \[1, 2\]"),
        (lambda c: c.update(info={"rank_order": "up"}), r"info\.rank_order: found 'up'"),
        (lambda c: c.pop("images"), "field images: found None"),
    ],
)
def test_coco_names_what_is_wrong(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    root = make_coco_folder(tmp_path / "set")
    change_json(root / ANNOTATIONS["coco"], change)
    with pytest.raises(DatasetError, match=message):
        read("coco", root)


@pytest.mark.parametrize("masks", ["ids", "folder", None])
def test_painted_with_and_without_instance_masks(masks: str | None, tmp_path: Path) -> None:
    root = make_painted_folder(tmp_path, masks=masks)
    found = [sorted(row) for row in ranks(read("painted", root))]
    assert found == [sorted(row) for row in DEFAULT_RANKS]


def test_painted_levels_tell_equal_instances_apart_by_masks() -> None:
    painted = np.zeros((10, 20), np.uint8)
    painted[2:5, 2:6] = painted[2:5, 12:16] = 200
    masks = np.zeros((3, 10, 20), bool)
    masks[0, 2:5, 2:6] = masks[1, 2:5, 12:16] = masks[2, 8:, :] = True
    assert [item.rank for item in painted_objects(painted)] == [0]
    assert [item.rank for item in painted_objects(painted, masks)] == [0, 0]
    assert [item.rank for item in painted_objects(painted, masks, keep_rankless=True)] == [0, 0, -1]


def test_painted_refuses_colours(tmp_path: Path) -> None:
    root = make_painted_folder(tmp_path)
    cv2.imwrite(str(root / "gt/train/train_001.png"), np.random.default_rng(0).integers(0, 255, (9, 9, 3)))
    with pytest.raises(DatasetError, match=r"train_001\.png: found 3 channels, expected grey levels"):
        read("painted", root)


def test_painted_refuses_masks_of_other_sizes(tmp_path: Path) -> None:
    root = make_painted_folder(tmp_path)
    cv2.imwrite(str(root / "masks/train/train_001.png"), np.zeros((3, 4), np.uint8))
    with pytest.raises(DatasetError, match=r"train_001\.png: found 3x4, expected"):
        read("painted", root)


def test_painted_needs_maps(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no painted maps"):
        read("painted", tmp_path)


def change_first(kind: str, root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first annotation of a folder."""
    path = root / ANNOTATIONS[kind]
    content = pickle.loads(path.read_bytes()) if kind == "irsr" else json.loads(path.read_text())
    lists = {"coco": lambda: content["annotations"], "seqrank": lambda: content["data"][0]["annotations"]}
    change(lists[kind]()[0] if kind in lists else content[0]["annotations"][0])
    path.write_bytes(pickle.dumps(content) if kind == "irsr" else json.dumps(content).encode())


RUNS_OF_NOTHING = [
    {"size": [10, 10], "counts": [5, 3]},
    {"size": [10, 10], "counts": "5"},
    {"size": [10, 10], "counts": ""},
    {"size": [10, 10], "counts": None},
    {"size": [10, 10], "counts": [5, -3, 98]},
    {"size": [10], "counts": [100]},
    {"size": [10, 10], "counts": [50, 10, 40]},  # sound, but of another size than the image
    [[1e9, 0, 5, 5, 0, 1e9]],
    [[10**400, 0, 5, 5, 0, 9]],
    None,
]


@pytest.mark.parametrize("mask", RUNS_OF_NOTHING, ids=str)
@pytest.mark.parametrize("kind", ["irsr", "sifr", "seqrank", "coco"])
def test_a_mask_that_cannot_be_decoded_costs_its_object_alone(
    kind: str, mask: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = MAKERS[kind](tmp_path / "set")
    change_first(kind, root, lambda item: item.update(segmentation=mask))
    found = read(kind, root)
    assert ranks(found) == [[1, 0], *(list(row) for row in DEFAULT_RANKS[1:])]
    assert len(caplog.records) >= 1


def test_runs_are_those_of_coco() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        height, width = generator.integers(1, 40, 2)
        mask = generator.random((height, width)) < generator.choice([0, 0.02, 0.5, 1])
        flat = mask.T.reshape(-1).astype(int)
        runs = np.diff(np.flatnonzero(np.diff(flat, prepend=0, append=2)), prepend=0).tolist()
        encoded = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        assert rle_problem(encoded) is None
        assert rle_problem({**encoded, "counts": runs}) is None
        assert (rle_problem({**encoded, "counts": [*runs, 1]}) or "").startswith("found runs over")


def test_pickles_may_hold_tuples(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    expected = read("irsr", root)
    change_first(
        "irsr", root, lambda item: item.update(segmentation=tuple(tuple(p) for p in item["segmentation"]))
    )
    assert read("irsr", root) == expected


@pytest.mark.parametrize("suffix", [".JPG", ".jpeg", ".png"])
def test_names_without_a_suffix_find_other_suffixes(suffix: str, tmp_path: Path) -> None:
    root = make_seqrank_folder(tmp_path / "set")
    first = photographs(root)[0]
    first.rename(first.with_suffix(suffix))
    assert Path(read("seqrank", root)[0].file_name).name == f"train_000{suffix}"


def test_irsr_takes_the_folder_that_holds_the_images(tmp_path: Path) -> None:
    root = make_irsr_folder(tmp_path)
    (root / "Images/train/rgb").rename(root / "Images/train/image")
    (root / "Images/train/rgb").mkdir()
    assert len(read("irsr", root)) == 5


def test_sifr_takes_ids_that_are_text(tmp_path: Path) -> None:
    root = make_sifr_folder(tmp_path)
    change_json(root / ANNOTATIONS["sifr"], lambda content: content[0].update(image_id="000000001270"))
    assert read("sifr", root)[0].image_id == 1270


def test_coco_takes_ranks_that_are_text(tmp_path: Path) -> None:
    root = make_coco_folder(tmp_path)
    change_first("coco", root, lambda item: item.update(rank="2"))
    assert ranks(read("coco", root))[0] == [2, 1, 0]


@pytest.mark.parametrize("content", [b"[" * 100_000, b"9" * 5000, b"\xef\xbb\xbf[]"], ids=len)
def test_strange_json_is_read_or_one_line(content: bytes, tmp_path: Path) -> None:
    root = make_sifr_folder(tmp_path)
    (root / ANNOTATIONS["sifr"]).write_bytes(content)
    if content.endswith(b"[]"):
        assert read("sifr", root) == []
        return
    with pytest.raises(DatasetError, match="not valid JSON"):
        read("sifr", root)
