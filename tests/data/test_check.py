from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sor_ppa.data.builtin import DatasetSource
from sor_ppa.data.check import check_dataset
from tests.data.folders import edit, make_assr_folder, make_coco_folder, make_irsr_folder, make_painted_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_assr_folder(tmp_path / "ASSR").parent


def source(root: Path, name: str = "assr_train") -> DatasetSource:
    kinds = {"assr": "ASSR", "irsr": "IRSR", "coco": "own", "painted": "painted_sor"}
    kind, split = name.split("_")
    return DatasetSource(name, kinds[kind], kind, split, str(root))


def kinds(root: Path, name: str = "assr_train", *, notes: bool = False) -> Counter[str]:
    _, faults = check_dataset(source(root, name))
    return Counter(fault.kind for fault in faults if notes or fault.serious)


@pytest.mark.parametrize(
    ("name", "maker"),
    [
        ("assr_train", make_assr_folder),
        ("irsr_train", make_irsr_folder),
        ("coco_train", make_coco_folder),
        ("painted_train", make_painted_folder),
    ],
)
def test_valid_folders_have_no_fault(name: str, maker: Callable[[Path], Path], tmp_path: Path) -> None:
    maker(source(tmp_path, name).path)
    assert not kinds(tmp_path, name)


def objects(content: Any, image: int) -> Any:
    return content[image]["object_data"]


CHANGES: dict[str, Callable[[Any], object]] = {
    "box-outside": lambda c: objects(c, 0)[0].update(bbox=[-50, 10, 60, 5000]),
    "empty-box": lambda c: objects(c, 0)[1].update(bbox=[10, 10, 10, 20]),
    "box-apart-from-mask": lambda c: objects(c, 1)[0].update(bbox=[0, 0, 3, 3]),
    "degenerate-polygon": lambda c: objects(c, 0)[0]["segmentation"].append([5, 5, 25, 25, 45, 45]),
    "duplicate-image": lambda c: c.append(c[0]),
    "bad-box": lambda c: objects(c, 2)[0].update(bbox="none"),
    "no-mask": lambda c: objects(c, 2)[0].update(segmentation=[]),
    "bad-record": lambda c: c.append({"img": 5}),
    "rank-count": lambda c: objects(c, 3).append(objects(c, 0)[0]),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_fault_is_found(kind: str, root: Path) -> None:
    edit(root / "ASSR/obj_seg_data_train.json", CHANGES[kind])
    assert kinds(root)[kind] == 1


def test_truncated_images_are_found_by_decoding(root: Path) -> None:
    path = root / "ASSR/images/train/train_002.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert kinds(root) == {"broken-image": 1}
    assert not any(fault.serious for fault in check_dataset(source(root), decode=False)[1])


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("duplicate-id", lambda c: c["images"].append(c["images"][0])),
        ("duplicate-id", lambda c: c["annotations"][1].update(id=0)),
        ("size-disagrees", lambda c: c["images"][2].update(width=3)),
    ],
)
def test_faults_of_coco_files_are_found(kind: str, change: Callable[[Any], object], tmp_path: Path) -> None:
    make_coco_folder(tmp_path / "own")
    edit(tmp_path / "own/annotations/rank_train.json", change)
    assert kinds(tmp_path, "coco_train") == {kind: 1}


@pytest.mark.parametrize(("row", "kind"), [((1, 1, 0), "rank-tie"), ((3, 1, 0), "rank-skip")])
def test_unusual_ranks_are_notes(row: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    make_irsr_folder(tmp_path / "IRSR", ranks=[row, (0,)])
    assert not kinds(tmp_path, "irsr_train")
    assert kinds(tmp_path, "irsr_train", notes=True)[kind] == 1


def test_assr_values_that_skip_are_notes(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "ASSR", values=[(1.0, 0.7), (0.9, 0.8), (1.0, 0.9)])
    assert kinds(tmp_path, notes=True)["rank-skip"] == 2


def test_splits_that_share_pictures_are_found(root: Path) -> None:
    make_assr_folder(root / "ASSR", ["val"], size=(40, 50))
    assert not kinds(root)
    shutil.copy(root / "ASSR/images/train/train_001.jpg", root / "ASSR/images/val/val_000.jpg")
    assert kinds(root)["shared-image"] == 1


def test_a_list_that_differs_is_a_note(root: Path) -> None:
    (root / "ASSR/train_images.txt").write_text("train_000\nother\n")
    assert kinds(root, notes=True)["list-differs"] == 5


def test_splits_of_any_name_may_share_pictures(tmp_path: Path) -> None:
    for split in ("fold1", "fold2"):
        make_coco_folder(tmp_path / "set", split)
    _, faults = check_dataset(DatasetSource("set_fold1", "set", "coco", "fold1", str(tmp_path)))
    assert sum(fault.kind == "shared-image" for fault in faults) == 5
