"""Salient object detection sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from sor_ppa import add_sor_config
from sor_ppa.data.issues import DatasetError
from sor_ppa.data.sod import (
    BUILTIN_SOD,
    SODSource,
    find_folders,
    read_mask,
    read_sod,
    register_sod,
    register_sod_from_config,
)


def make(images: Path, masks: Path, names: list[str], size: tuple[int, int] = (20, 30)) -> None:
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(images / f"{name}.jpg"), np.zeros((*size, 3), np.uint8))
        cv2.imwrite(str(masks / f"{name}.png"), np.full(size, 255, np.uint8))


@pytest.mark.parametrize(
    ("folder", "images", "masks"),
    [
        ("set", "set/images", "set/masks"),
        ("DUTS-TR", "DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask"),
        ("HRSOD_test", "HRSOD_test", "HRSOD_test_mask"),
        ("UHRSD_TE_2K", "UHRSD_TE_2K/image", "UHRSD_TE_2K/mask"),
        ("DIS-VD", "DIS-VD/im", "DIS-VD/gt"),
        ("DUT-OMRON", "DUT-OMRON/DUT-OMRON-image", "DUT-OMRON/pixelwiseGT-new-PNG"),
        ("ECSSD", "ECSSD/images", "ECSSD/ground_truth_mask"),
        ("HKU-IS", "HKU-IS/imgs", "HKU-IS/gt"),
    ],
)
def test_published_layouts_are_found(tmp_path: Path, folder: str, images: str, masks: str) -> None:
    make(tmp_path / images, tmp_path / masks, ["a"])
    assert find_folders(tmp_path / folder) == (tmp_path / images, tmp_path / masks)


def test_a_folder_without_masks_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="found images/, expected one folder of images and one of masks"):
        find_folders(tmp_path)


def test_records_come_in_natural_order_with_their_masks(tmp_path: Path) -> None:
    make(tmp_path / "images", tmp_path / "masks", ["img10", "img2"])
    records = read_sod(tmp_path / "images", tmp_path / "masks")
    assert [Path(record["file_name"]).stem for record in records] == ["img2", "img10"]
    assert [Path(record["mask_file_name"]).stem for record in records] == ["img2", "img10"]
    assert records[0]["height"] == 20
    assert records[0]["width"] == 30
    assert [record["image_id"] for record in records] == [0, 1]


def test_an_image_without_a_mask_is_named(tmp_path: Path) -> None:
    make(tmp_path / "images", tmp_path / "masks", ["a", "b"])
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.jpg: found no mask of this name"):
        read_sod(tmp_path / "images", tmp_path / "masks")


def test_pairs_of_different_size_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path / "images", tmp_path / "masks", ["a", "b"])
    cv2.imwrite(str(tmp_path / "masks" / "b.png"), np.zeros((5, 5), np.uint8))
    with caplog.at_level("WARNING"):
        records = read_sod(tmp_path / "images", tmp_path / "masks")
    assert len(records) == 1
    assert "found 5 x 5 pixels, expected 20 x 30" in caplog.text


def test_an_empty_or_missing_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="found no image"):
        read_sod(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(DatasetError, match=r"nowhere: no such folder"):
        read_sod(tmp_path / "nowhere", tmp_path / "masks")


def test_masks_of_zero_and_one_are_masks(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.eye(4, dtype=np.uint8))
    assert sorted(np.unique(read_mask(tmp_path / "a.png"))) == [0, 255]


def test_an_unreadable_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"a\.png: not a readable mask"):
        read_mask(tmp_path / "a.png")
    with pytest.raises(DatasetError, match=r"b\.png: no such mask"):
        read_mask(tmp_path / "b.png")


def test_the_usual_sets_are_registered() -> None:
    for name in BUILTIN_SOD:
        assert isinstance(DatasetCatalog.data[name], SODSource)
        assert MetadataCatalog.get(name).evaluator_type == "sod"


def test_a_set_of_ones_own_is_registered_by_config(tmp_path: Path) -> None:
    make(tmp_path / "mine" / "images", tmp_path / "mine" / "masks", ["a"])
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.DATASETS.SOD = [f"sod_mine={tmp_path / 'mine'}"]
    register_sod_from_config(cfg)
    assert len(DatasetCatalog.get("sod_mine")) == 1
    cfg.DATASETS.SOD = ["sod_mine"]
    with pytest.raises(ValueError, match=r"DATASETS\.SOD: expected 'name=folder', found 'sod_mine'"):
        register_sod_from_config(cfg)


def test_a_missing_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    register_sod("sod_absent", "ABSENT", str(tmp_path))
    with pytest.raises(DatasetError, match=r"dataset sod_absent: no such folder: .*ABSENT"):
        DatasetCatalog.get("sod_absent")
    with pytest.raises(ValueError, match="the name is taken by a dataset of another kind"):
        register_sod("assr_train", "x")
