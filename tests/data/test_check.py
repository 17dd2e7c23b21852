from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from sor_ppa.data import register_all
from sor_ppa.data.__main__ import main
from sor_ppa.data.builtin import DatasetSource
from sor_ppa.data.check import check_dataset
from tests.data.folders import make_assr_folder, make_coco_folder, make_irsr_folder, make_painted_folder


@pytest.fixture(autouse=True)
def _registration() -> Iterator[None]:
    yield
    register_all()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_assr_folder(tmp_path / "ASSR", ["train"]).parent


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
        ("irsr_train", make_irsr_folder),
        ("coco_train", make_coco_folder),
        ("painted_train", make_painted_folder),
    ],
)
def test_valid_folders_have_no_fault(name: str, maker: Callable[[Path], Path], tmp_path: Path) -> None:
    maker(source(tmp_path, name).path)
    assert not kinds(tmp_path, name)


def test_a_valid_assr_folder_has_no_fault(root: Path) -> None:
    assert not kinds(root)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def objects(content: Any, image: int) -> Any:
    return content[image]["object_data"]


CHANGES: dict[str, Callable[[Any], object]] = {
    "box-outside": lambda c: objects(c, 0)[0].update(bbox=[-50, 10, 60, 5000]),
    "empty-box": lambda c: objects(c, 0)[1].update(bbox=[10, 10, 10, 20]),
    "box-apart-from-mask": lambda c: objects(c, 1)[0].update(bbox=[0, 0, 3, 3]),
    "degenerate-polygon": lambda c: objects(c, 0)[0]["segmentation"].append([1, 1, 2, 2]),
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


def test_a_polygon_without_area_is_degenerate(root: Path) -> None:
    line = [5.0, 5.0, 25.0, 25.0, 45.0, 45.0]
    edit(root / "ASSR/obj_seg_data_train.json", lambda c: objects(c, 0)[0]["segmentation"].append(line))
    assert kinds(root)["degenerate-polygon"] == 1


def test_all_missing_images_are_found(root: Path) -> None:
    for index in (1, 3):
        (root / f"ASSR/images/train/train_{index:03d}.jpg").unlink()
    assert kinds(root) == {"missing-image": 2}


def test_truncated_images_are_found_by_decoding(root: Path) -> None:
    path = root / "ASSR/images/train/train_002.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert kinds(root) == {"broken-image": 1}
    assert not check_dataset(source(root), decode=False)[1] or not any(
        fault.serious for fault in check_dataset(source(root), decode=False)[1]
    )


def test_duplicate_ids_are_found(tmp_path: Path) -> None:
    make_coco_folder(tmp_path / "own")
    edit(tmp_path / "own/annotations/rank_train.json", lambda c: c["images"].append(c["images"][0]))
    assert kinds(tmp_path, "coco_train")["duplicate-id"] == 1


def test_sizes_that_disagree_are_found(tmp_path: Path) -> None:
    make_coco_folder(tmp_path / "own")
    edit(tmp_path / "own/annotations/rank_train.json", lambda c: c["images"][2].update(width=3))
    assert kinds(tmp_path, "coco_train")["size-disagrees"] == 1


@pytest.mark.parametrize(("row", "kind"), [((1, 1, 0), "rank-tie"), ((3, 1, 0), "rank-skip")])
def test_unusual_ranks_are_notes(row: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    make_irsr_folder(tmp_path / "IRSR", ranks=[row, (0,)])
    assert not kinds(tmp_path, "irsr_train")
    assert kinds(tmp_path, "irsr_train", notes=True)[kind] == 1


def test_assr_values_that_skip_are_notes(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "ASSR", ["train"], values=[(1.0, 0.7), (0.9, 0.8), (1.0, 0.9)])
    assert kinds(tmp_path, notes=True)["rank-skip"] == 2


def test_splits_that_share_pictures_are_found(root: Path) -> None:
    make_assr_folder(root / "ASSR", ["val"], size=(40, 50))
    assert not kinds(root)
    shutil.copy(root / "ASSR/images/train/train_001.jpg", root / "ASSR/images/val/val_000.jpg")
    assert kinds(root)["shared-image"] == 1


def test_a_list_that_differs_is_a_note(root: Path) -> None:
    (root / "ASSR/train_images.txt").write_text("train_000\nother\n")
    assert kinds(root, notes=True)["list-differs"] == 5


def run(root: Path, *arguments: str) -> int:
    return main([arguments[0], "--root", str(root), *arguments[1:]])


def test_check_command(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "check", "assr_train") == 0
    assert "assr_train: 5 usable images" in capsys.readouterr().out
    (root / "ASSR/images/train/train_001.jpg").unlink()
    assert run(root, "check", "assr_train") == 1
    output = capsys.readouterr().out
    assert output.startswith("fault: missing-image: ")
    assert "1 faults" in output


def test_check_command_limits_its_lines(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (root / "ASSR/images/train").iterdir():
        path.unlink()
    assert run(root, "check", "assr_train", "--limit", "2") == 1
    output = capsys.readouterr().out
    assert output.count("no such image") == 2
    assert "and 3 more" in output


@pytest.mark.parametrize("name", ["assr_val", "nonsense", "irsr_train"])
def test_what_is_not_there_is_one_line(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = run(root, "stats", name)
    assert status == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_show_command_writes_pictures(root: Path, tmp_path: Path) -> None:
    assert run(root, "show", "assr_train", "--output", str(tmp_path / "out"), "--rankless") == 0
    written = sorted((tmp_path / "out").iterdir())
    assert len(written) == 5
    shown, photo = cv2.imread(str(written[0])), cv2.imread(str(root / "ASSR/images/train/train_000.jpg"))
    assert shown is not None
    assert photo is not None
    assert shown.shape == photo.shape
    assert (shown != photo).any()


def test_stats_command_counts_and_plots(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(root, "stats", "assr_train", "--output", str(tmp_path / "out")) == 0
    assert "ranked objects       11" in capsys.readouterr().out
    summary = json.loads((tmp_path / "out/assr_train.json").read_text())
    assert summary["unranked_objects"] == 3
    assert [row["objects"] for row in summary["by_rank"]] == [4, 3, 2, 1, 1]
    plot = cv2.imread(str(tmp_path / "out/assr_train.png"))
    assert plot is not None
    assert plot.std() > 10


def test_stats_of_nothing(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "ASSR", ["train"], values=[()])
    assert run(tmp_path, "stats", "assr_train", "--output", str(tmp_path / "out")) == 0


def test_list_command_names_what_is_there(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "list") == 0
    lines = {line.split()[0]: line.split()[2] for line in capsys.readouterr().out.splitlines()}
    assert lines["assr_train"] == "there"
    assert lines["irsr_train"] == "absent"


def test_splits_of_any_name_may_share_pictures(tmp_path: Path) -> None:
    for split in ("fold1", "fold2"):
        make_coco_folder(tmp_path / "set", split)
    _, faults = check_dataset(DatasetSource("set_fold1", "set", "coco", "fold1", str(tmp_path)))
    assert sum(fault.kind == "shared-image" for fault in faults) == 5


def test_annotations_with_one_id_are_found(tmp_path: Path) -> None:
    make_coco_folder(tmp_path / "set")
    edit(tmp_path / "set/annotations/rank_train.json", lambda content: content["annotations"][1].update(id=0))
    _, faults = check_dataset(DatasetSource("set_train", "set", "coco", "train", str(tmp_path)))
    assert [(fault.kind, fault.field) for fault in faults if fault.serious] == [("duplicate-id", "id")]


def test_pictures_of_equal_names_are_all_shown(tmp_path: Path) -> None:
    make_coco_folder(tmp_path / "set")

    def move(content: Any) -> None:
        for index in (0, 1):
            folder = tmp_path / f"set/images/train/{index}"
            folder.mkdir()
            image = content["images"][index]
            (folder.parent / image["file_name"]).rename(folder / "a.jpg")
            image["file_name"] = f"{index}/a.jpg"

    edit(tmp_path / "set/annotations/rank_train.json", move)
    assert main(["show", "set_train", "--root", str(tmp_path), "--output", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").iterdir())) == 5
