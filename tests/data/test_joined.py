"""Datasets of different depth train together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import build_detection_train_loader, get_detection_dataset_dicts

from sor_ppa import add_sor_config
from sor_ppa.data import RankingDatasetMapper, register_all, register_from_config
from tests.data.folders import make_assr_folder, make_coco_folder, make_irsr_folder


@pytest.fixture
def cfg(tmp_path: Path) -> Iterator[CfgNode]:
    make_assr_folder(tmp_path / "ASSR", ["train"], values=[(1.0, 0.9), (0.9, 1.0, 0.8)])
    make_irsr_folder(tmp_path / "IRSR", ranks=[(0, 1), (6, 5, 4, 3, 2, 1, 0)])
    make_coco_folder(tmp_path / "My Photos", ranks=[(0,), (1, 0)])
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.DATASETS.ROOT = str(tmp_path)
    cfg.DATASETS.TRAIN = ("assr_train", "irsr_train", "my_photos_train")
    cfg.MODEL.MASK_ON = True
    cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 2
    register_from_config(cfg)
    yield cfg
    register_all()


def labels(cfg: CfgNode) -> list[list[int]]:
    mapper = RankingDatasetMapper(cfg, is_train=True)
    samples = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=False)
    return [mapper(sample)["instances"].gt_ranks.tolist() for sample in samples]


def test_the_most_salient_object_has_one_label_everywhere(cfg: CfgNode) -> None:
    assert labels(cfg) == [[4, 3], [3, 4, 2], [3, 4], [4, 3, 2, 1, 0, 0, 0], [4], [4, 3]]


def test_more_ranks_by_config(cfg: CfgNode) -> None:
    cfg.MODEL.SOR.NUM_RANKS = 8
    assert labels(cfg)[3] == [7, 6, 5, 4, 3, 2, 1]


def test_what_exceeds_the_ranks_can_be_ignored(cfg: CfgNode) -> None:
    cfg.DATASETS.RANK_OVERFLOW = "ignore"
    assert labels(cfg)[3] == [4, 3, 2, 1, 0, -1, -1]


def test_labels_of_the_datasets_can_be_kept(cfg: CfgNode) -> None:
    cfg.DATASETS.RANK_RULE = "keep"
    assert labels(cfg) == [[4, 3], [3, 4, 2], [0, 1], [4, 3, 2, 1, 0, 0, 0], [0], [1, 0]]


def test_the_train_loader_takes_them(cfg: CfgNode) -> None:
    loader = build_detection_train_loader(cfg, mapper=RankingDatasetMapper(cfg, is_train=True))
    batch = next(iter(loader))
    assert len(batch) == 2
    assert all(len(item["instances"].gt_ranks) == len(item["instances"]) for item in batch)
