from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from sor_ppa import add_sor_config
from sor_ppa.data import BUILTIN, DatasetError, load_records, register_all, register_from_config
from sor_ppa.data.builtin import source_of
from tests.data.folders import make_assr_folder, make_coco_folder, make_irsr_folder


@pytest.fixture(autouse=True)
def _registration() -> Iterator[None]:
    yield
    register_all()


@pytest.mark.parametrize("name", ["assr_train", "assr_val", "assr_test", "synthetic_sor_train"])
def test_names_and_metadata(name: str) -> None:
    assert name in DatasetCatalog.list()
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["salient_obj"]
    assert metadata.evaluator_type == "sor"


def test_root_of_the_environment_counts_when_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_assr_folder(tmp_path / "ASSR", ["val"])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert len(DatasetCatalog.get("assr_val")) == 5


def test_without_any_root_it_is_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_assr_folder(tmp_path / "datasets" / "synthetic_sor", ["val"])
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.chdir(tmp_path)
    assert len(DatasetCatalog.get("synthetic_sor_val")) == 5


def test_registering_again_moves_the_root(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "one" / "ASSR", ["train"])
    make_assr_folder(tmp_path / "two" / "ASSR", ["train"], values=[(1.0,)])
    register_all(tmp_path / "one")
    assert len(DatasetCatalog.get("assr_train")) == 5
    register_all(tmp_path / "two")
    assert len(DatasetCatalog.get("assr_train")) == 1


def test_config_sets_root_and_rankless(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "ASSR", ["train"])
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.DATASETS.ROOT = str(tmp_path)
    cfg.DATASETS.KEEP_RANKLESS = True
    register_from_config(cfg)
    assert sum(len(item["annotations"]) for item in DatasetCatalog.get("assr_train")) == 14


def test_missing_folder_is_one_clear_line(tmp_path: Path) -> None:
    register_all(tmp_path)
    with pytest.raises(DatasetError, match=r"assr_test: no such folder: .*ASSR .*DATASETS\.ROOT"):
        DatasetCatalog.get("assr_test")


def test_names_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {**DatasetCatalog.data, "assr_val": list}
    monkeypatch.setattr(DatasetCatalog, "data", foreign)
    register_all("elsewhere")
    assert DatasetCatalog.data["assr_val"] is list


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="assr_train"):
        load_records("coco_2017_train")


def test_every_builtin_is_registered() -> None:
    assert set(BUILTIN) <= set(DatasetCatalog.list())


def test_own_data_takes_a_published_name_that_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_coco_folder(tmp_path / "IRSR")
    register_all(tmp_path)
    assert source_of("irsr_train").kind == "coco"
    make_irsr_folder(tmp_path / "IRSR")
    register_all(tmp_path)
    assert source_of("irsr_train").kind == "irsr"
    assert "rank_train.json: not registered, dataset irsr_train is that of" in caplog.text


def test_of_two_folders_with_one_name_the_second_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_coco_folder(tmp_path / "My-Set")
    make_coco_folder(tmp_path / "my set")
    register_all(tmp_path)
    assert source_of("my_set_train").folder == "My-Set"
    assert "my set/annotations/rank_train.json: not registered" in caplog.text
