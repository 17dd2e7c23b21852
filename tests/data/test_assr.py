from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sor_ppa.data import DatasetError, read_assr, to_detectron2
from sor_ppa.data.assr import assr_label
from sor_ppa.data.issues import IssueLog
from tests.data.folders import edit, make_assr_folder
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


def test_labels_of_values_that_were_float32() -> None:
    values = np.arange(10, 4, -1) / 10
    assert [assr_label(float(np.float32(value))) for value in values] == [4, 3, 2, 1, 0, None]


def test_rankless_objects_are_kept_on_request(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path)
    kept = read_assr(root, "train", keep_rankless=True)
    assert [len(record.objects) for record in read_assr(root, "train")] == [3, 2, 5, 1, 0]
    assert [len(record.objects) for record in kept] == [3, 2, 6, 1, 2]
    annotations = to_detectron2(kept[2])["annotations"]
    assert [item["gt_rank"] for item in annotations] == [4, -1, 3, 2, 1, 0]


@pytest.mark.parametrize(
    ("values", "ranks"),
    [((0.9, 1.0, 0.9, 0.6, 0.2), [1, 2, 1, 0]), ((1.0, 0.6, 0.60000002), [1, 0, 0])],
)
def test_ranks_are_dense_from_zero_with_ties(
    values: tuple[float, ...], ranks: list[int], tmp_path: Path
) -> None:
    (record,) = read_assr(make_assr_folder(tmp_path, ["val"], values=[values]), "val")
    assert [item.rank for item in record.objects] == ranks


RANK_FILE, OBJECT_FILE = "rank_order/train/train_000.json", "obj_seg_data_train.json"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (RANK_FILE, lambda c: c["rank_order"].pop(), "rank_order: expected 3 ranks, one for each .* found 2"),
        (
            OBJECT_FILE,
            lambda c: c[0]["object_data"][1].update(bbox=[1, 2, 3]),
            r"record 0 \(train_000\).*object_data\[1\].bbox: expected four numbers .* found \[1, 2, 3\]",
        ),
        *(
            (
                RANK_FILE,
                lambda c, value=value: c["rank_order"].__setitem__(1, value),
                r"train_000\.json.*field rank_order\[1\]: expected a number of at most 1.0, found",
            )
            for value in ("1.0", None, True, 1.1, [1.0])
        ),
    ],
)
def test_a_wrong_value_is_named(
    file: str, change: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    root = make_assr_folder(tmp_path)
    edit(root / file, change)
    with pytest.raises(DatasetError, match=message):
        read_assr(root, "train")


def test_a_missing_rank_file_is_named(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path)
    (root / "rank_order/train/train_003.json").unlink()
    with pytest.raises(DatasetError, match=r"train_003\.json: record 3 \(train_003\): .* no such file"):
        read_assr(root, "train")


def test_collecting_continues_after_a_fault(tmp_path: Path) -> None:
    root = make_assr_folder(tmp_path)
    (root / "images/train/train_002.jpg").unlink()
    (root / "rank_order/train/train_003.json").unlink()
    log = IssueLog(collect=True)
    records = read_assr(root, "train", issues=log)
    assert sorted(issue.kind for issue in log.issues) == ["bad-rank-file", "missing-image"]
    assert len(records) == 3
