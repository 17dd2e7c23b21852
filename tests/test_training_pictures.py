"""Pictures of augmented training images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from sor_ppa.cli import main
from sor_ppa.config import ConfigError, load_config
from sor_ppa.data import DatasetError
from sor_ppa.training_pictures import write_training_pictures
from tests.data.folders import make_assr_folder, make_coco_folder


def config(name: str, root: Path, *options: object) -> CfgNode:
    return load_config(f"configs/{name}.yaml", ["DATASETS.ROOT", str(root), *options])


def sheets(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: cv2.imread(str(path)) for path in sorted(folder.iterdir())}


def test_ranks_of_augmented_images_are_drawn(tmp_path: Path):
    root = make_assr_folder(tmp_path / "ASSR").parent
    out = tmp_path / "out"
    options = ("--augmented", "--config-file", "configs/sor/ppa.yaml", "--count", "2", "--output", str(out))
    options = (*options, "--opts", "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MAX_SIZE_TRAIN", "96")
    assert main(["data", "show", "assr_train", "--root", str(root), *options]) == 0
    assert list(sheets(out)) == ["train_000.png", "train_001.png"]
    assert all(len(np.unique(sheet.reshape(-1, 3), axis=0)) > 1000 for sheet in sheets(out).values())


def test_datasets_of_the_user_are_known(tmp_path: Path):
    folder = make_assr_folder(tmp_path / "ASSR")
    options = ("DATASETS.OWN", f"('holiday_train=assr:{folder}',)", "INPUT.MIN_SIZE_TRAIN", "(64,)")
    cfg = config("sor/ppa", tmp_path, *options)
    assert write_training_pictures(cfg, "holiday_train", tmp_path / "out", 1) == 1


def test_classes_of_a_detection_set_are_drawn(tmp_path: Path):
    folder = make_coco_folder(tmp_path / "mine")
    (file,) = (folder / "annotations").glob("*train*.json")
    register_coco_instances("many_classes_train", {}, str(file), str(folder / "images" / "train"))
    try:
        cfg = config("salience_detr/salience_detr_R_50_4scale", tmp_path, "INPUT.MIN_SIZE_TRAIN", "(64,)")
        assert write_training_pictures(cfg, "many_classes_train", tmp_path / "out", 1) == 1
    finally:
        DatasetCatalog.remove("many_classes_train")
        MetadataCatalog.remove("many_classes_train")


def test_masks_of_a_saliency_set_are_drawn(tmp_path: Path):
    for folder, value in (("images", 90), ("masks", 255)):
        (tmp_path / "DUTS-TR" / folder).mkdir(parents=True)
        picture = np.zeros((40, 60, 3), np.uint8)
        picture[10:30, 20:40] = value
        cv2.imwrite(str(tmp_path / "DUTS-TR" / folder / "a.png"), picture)
    cfg = config("inspyrenet/inspyrenet_swin_b", tmp_path)
    assert write_training_pictures(cfg, "duts_tr", tmp_path / "out", 5, seed=3) == 1
    (sheet,) = sheets(tmp_path / "out").values()
    photo, augmented = np.split(sheet, [sheet.shape[1] // 4], axis=1)
    assert (photo[..., 1].astype(int) - photo[..., 2] > 20).sum() == 0
    assert (augmented[..., 1].astype(int) - augmented[..., 2] > 20).sum() > 1000  # green objects


@pytest.mark.parametrize(
    ("model", "name", "error", "message"),
    [
        ("sor/ppa", "duts_te", DatasetError, "dataset duts_te: expected objects for SalientObjectRanker"),
        (
            "inspyrenet/inspyrenet_swin_b",
            "assr_train",
            DatasetError,
            "expected a saliency dataset for InSPyReNet",
        ),
        ("sor/ppa", "none", DatasetError, "dataset none: expected a registered dataset"),
        ("siamese_detr/pretrain_conditional_100q_coco", "assr_train", ConfigError, "found SiameseDETR"),
    ],
)
def test_data_of_another_kind_is_refused(tmp_path: Path, model: str, name: str, error: type, message: str):
    with pytest.raises(error, match=message):
        write_training_pictures(config(model, tmp_path), name, tmp_path / "out", 1)
