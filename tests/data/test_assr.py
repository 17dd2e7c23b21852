from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from sor_ppa.data import DatasetError, read_assr, to_detectron2
from sor_ppa.data.assr import assr_label
from sor_ppa.data.issues import IssueLog
from tests.data.folders import make_assr_folder
from tests.parity import parity_dir


def tiny(root: Path) -> Path:
    """The published five-image folder with empty pictures of the right sizes."""
    source = parity_dir("ppa") / "assr_tiny"
    shutil.copytree(source, root)
    (root / "images" / "train").mkdir(parents=True)
    for name, (height, width) in json.loads((source / "image_sizes_hw.json").read_text()).items():
        cv2.imwrite(str(root / "images" / "train" / f"{name}.jpg"), np.zeros((height, width, 3), np.uint8))
    return root


def test_records_equal_the_published_registration(tmp_path: Path) -> None:
    root = tiny(tmp_path / "ASSR")
    expected = json.loads((root / "expected_dicts.json").read_text())
    found = [to_detectron2(record) for record in read_assr(root, "train")]
    for item in found:
        item["file_name"] = str(Path(item["file_name"]).relative_to(root))
        for annotation in item["annotations"]:
            annotation["bbox_mode"] = str(int(annotation["bbox_mode"]))
    assert found == expected


def test_labels_equal_the_published_table() -> None:
    manifest = json.loads((parity_dir("ppa") / "manifest.json").read_text())
    table = manifest["cases"]["assr_register"]["rank_to_label"]
    assert {value: assr_label(float(value)) for value in table} == table


@pytest.mark.parametrize(("value", "label"), [(1.0, 4), (0.9, 3), (0.8, 2), (0.7, 1), (0.6, 0), (0.5, None)])
def test_label_of_a_value(value: float, label: int | None) -> None:
    assert assr_label(value) == label


def test_rankless_objects_are_kept_on_request(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    counts = [len(record.objects) for record in read_assr(root, "train")]
    all_counts = [len(record.objects) for record in read_assr(root, "train", keep_rankless=True)]
    assert counts == [3, 2, 5, 1, 0]
    assert all_counts == [3, 2, 6, 1, 2]
    kept = to_detectron2(read_assr(root, "train", keep_rankless=True)[2])
    assert [item["gt_rank"] for item in kept["annotations"]] == [4, -1, 3, 2, 1, 0]


def test_ranks_are_dense_from_zero_with_ties(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["val"], values=[(0.9, 1.0, 0.9, 0.6, 0.2)])
    (record,) = read_assr(root, "val")
    assert [item.rank for item in record.objects] == [1, 2, 1, 0]


def test_sizes_are_those_of_the_decoded_images(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["test"])
    for record in read_assr(root, "test"):
        image = cv2.imread(record.file_name)
        assert image is not None
        assert (record.height, record.width) == image.shape[:2]


def test_values_that_were_float32_are_tenths(tmp_path: Path) -> None:
    values = [float(np.float32(value)) for value in (1.0, 0.9, 0.8, 0.7, 0.6)]
    (record,) = read_assr(make_assr_folder(tmp_path, ["val"], values=[values]), "val")
    assert [(item.rank, item.label) for item in record.objects] == [(rank, rank) for rank in (4, 3, 2, 1, 0)]


def test_values_that_differ_by_rounding_tie(tmp_path: Path) -> None:
    (record,) = read_assr(make_assr_folder(tmp_path, ["val"], values=[(1.0, 0.6, 0.60000002)]), "val")
    assert [item.rank for item in record.objects] == [1, 0, 0]


def test_an_image_called_in_capitals_is_found(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["val"])
    (root / "images/val/val_000.jpg").rename(root / "images/val/val_000.JPG")
    assert read_assr(root, "val")[0].file_name.endswith("val_000.JPG")


def edit(path: Path, change: object) -> None:
    content = json.loads(path.read_text())
    change(content)  # type: ignore[operator]
    path.write_text(json.dumps(content))


def check_error(root: Path, *words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_assr(root, "train")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_missing_image_is_named(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    (root / "images/train/train_002.jpg").unlink()
    check_error(root, "obj_seg_data_train.json", "record 2 (train_002)", "field img", "train_002.jpg")


def test_broken_image_is_named(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    (root / "images/train/train_001.jpg").write_bytes(b"no picture")
    check_error(root, "record 1 (train_001)", "not a readable image", "train_001.jpg")


def test_missing_rank_file_is_named(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    (root / "rank_order/train/train_003.json").unlink()
    check_error(root, "rank_order/train/train_003.json", "record 3 (train_003)", "no such file")


def test_wrong_number_of_ranks_is_named(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    edit(root / "rank_order/train/train_000.json", lambda content: content["rank_order"].pop())
    check_error(root, "train_000.json", "field rank_order", "found 2 values, expected 3")


@pytest.mark.parametrize("value", ["1.0", None, True, 1.1, [1.0]])
def test_wrong_rank_value_is_named(tmp_path: Path, value: object) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    edit(
        root / "rank_order/train/train_000.json", lambda content: content["rank_order"].__setitem__(1, value)
    )
    check_error(root, "train_000.json", "field rank_order[1]", "found", "expected")


def test_wrong_box_is_named(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    edit(
        root / "obj_seg_data_train.json", lambda content: content[0]["object_data"][1].update(bbox=[1, 2, 3])
    )
    check_error(root, "record 0 (train_000)", "object_data[1].bbox", "found [1, 2, 3]", "four numbers")


@pytest.mark.parametrize("content", ["", "{", "[1, 2", '{"a": 1}'])
def test_broken_object_file_is_named(tmp_path: Path, content: str) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    (root / "obj_seg_data_train.json").write_text(content)
    check_error(root, "obj_seg_data_train.json")


def test_missing_object_file_is_named(tmp_path: Path) -> None:
    check_error(tmp_path, "obj_seg_data_train.json", "no such file")


def test_degenerate_polygon_costs_only_itself(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    edit(
        root / "obj_seg_data_train.json",
        lambda content: content[0]["object_data"][0]["segmentation"].append([1.0, 2.0, 3.0, 4.0]),
    )
    segmentation = read_assr(root, "train")[0].objects[0].segmentation
    assert isinstance(segmentation, list)
    assert [len(polygon) for polygon in segmentation] == [32]


def test_collecting_goes_on_after_a_fault(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path, ["train"])
    (root / "images/train/train_002.jpg").unlink()
    (root / "rank_order/train/train_003.json").unlink()
    log = IssueLog(collect=True)
    records = read_assr(root, "train", issues=log)
    assert sorted(fault.kind for fault in log.issues) == ["bad-rank-file", "missing-image"]
    assert len(records) == 3
