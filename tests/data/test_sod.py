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


def make(root: Path, names: str, images: str = "images", masks: str = "masks") -> tuple[Path, Path]:
    """Write images and masks of 20 x 30; returns the folders."""
    (root / images).mkdir(parents=True, exist_ok=True)
    (root / masks).mkdir(parents=True, exist_ok=True)
    for name in names.split():
        cv2.imwrite(str(root / images / f"{name}.jpg"), np.zeros((20, 30, 3), np.uint8))
        cv2.imwrite(str(root / masks / f"{name}.png"), np.full((20, 30), 255, np.uint8))
    return root / images, root / masks


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
def test_published_layouts_are_recognized(tmp_path: Path, folder: str, images: str, masks: str) -> None:
    made = make(tmp_path, "a", images, masks)
    assert find_folders(tmp_path / folder) == made


def test_records_are_in_natural_order_with_their_masks(tmp_path: Path) -> None:
    records = read_sod(*make(tmp_path, "img10 img2"))
    assert [Path(record["file_name"]).name for record in records] == ["img2.jpg", "img10.jpg"]
    assert [Path(record["mask_file_name"]).name for record in records] == ["img2.png", "img10.png"]
    assert [record["image_id"] for record in records] == [0, 1]
    assert {(record["height"], record["width"]) for record in records} == {(20, 30)}


def test_an_image_without_a_mask_is_named(tmp_path: Path) -> None:
    images, masks = make(tmp_path, "a b")
    (masks / "b.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.jpg: expected a mask of this name .* found none"):
        read_sod(images, masks)


def test_pairs_of_different_size_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, masks = make(tmp_path, "a b")
    cv2.imwrite(str(masks / "b.png"), np.zeros((5, 5), np.uint8))
    assert len(read_sod(images, masks)) == 1
    assert "expected 20 x 30 pixels, found 5 x 5" in caplog.text


def test_few_broken_files_may_be_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images, masks = make(tmp_path, "a b")
    (images / "b.jpg").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match=r"b\.jpg: expected an image, found a broken file"):
        read_sod(images, masks)
    assert len(read_sod(images, masks, max_unreadable=0.5)) == 1
    assert caplog.text.count("b.jpg: expected an image") == 1


def test_an_unusable_folder_is_named(tmp_path: Path) -> None:
    images, masks = make(tmp_path, "")
    with pytest.raises(DatasetError, match="found no image"):
        read_sod(images, masks)
    with pytest.raises(DatasetError, match=r"nowhere: expected .*, found no such folder"):
        read_sod(tmp_path / "nowhere", masks)
    masks.rmdir()
    with pytest.raises(DatasetError, match="expected one folder of images and one of masks, found images/"):
        find_folders(tmp_path)


def test_masks_of_zero_and_one_are_masks(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.eye(4, dtype=np.uint8))
    assert sorted(np.unique(read_mask(tmp_path / "a.png"))) == [0, 255]


def test_an_unreadable_mask_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    for name, found in (("a", "a broken file"), ("b", "no such file")):
        with pytest.raises(DatasetError, match=rf"{name}\.png: expected a mask, found {found}"):
            read_mask(tmp_path / f"{name}.png")


def test_the_usual_sets_are_registered() -> None:
    for name in BUILTIN_SOD:
        assert isinstance(DatasetCatalog.data[name], SODSource)
        assert MetadataCatalog.get(name).evaluator_type == "sod"


def test_own_sets_are_registered_by_config(tmp_path: Path) -> None:
    make(tmp_path / "mine", "a")
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.DATASETS.SOD = [f"sod_mine={tmp_path / 'mine'}"]
    register_sod_from_config(cfg)
    assert len(DatasetCatalog.get("sod_mine")) == 1
    cfg.DATASETS.SOD = ["sod_mine"]
    with pytest.raises(ValueError, match=r"DATASETS\.SOD: expected 'name=folder', found 'sod_mine'"):
        register_sod_from_config(cfg)


def test_a_missing_set_and_a_taken_name_are_named(tmp_path: Path) -> None:
    register_sod("sod_absent", "ABSENT", str(tmp_path))
    with pytest.raises(DatasetError, match=r"dataset sod_absent: expected .*ABSENT, found no such folder"):
        DatasetCatalog.get("sod_absent")
    with pytest.raises(ValueError, match="taken by another kind of dataset"):
        register_sod("assr_train", "x")
