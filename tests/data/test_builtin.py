from __future__ import annotations

from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from sor_ppa import add_sor_config
from sor_ppa.data import BUILTIN, DatasetError, load_records, register_all, register_from_config
from sor_ppa.data.builtin import register_source, source_of
from tests.data.folders import make_assr_folder, make_coco_folder, make_irsr_folder


def test_every_dataset_is_registered_with_its_metadata() -> None:
    assert set(BUILTIN) <= set(DatasetCatalog.list())
    assert {MetadataCatalog.get(name).evaluator_type for name in BUILTIN} == {"sor"}
    assert MetadataCatalog.get("assr_train").thing_classes == ["salient_obj"]


@pytest.mark.parametrize(("given", "root"), [("elsewhere", "elsewhere"), ("", "datasets")])
def test_the_root_is_read_from_the_environment_when_used(
    given: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_assr_folder(tmp_path / root / "ASSR")
    monkeypatch.setenv("DETECTRON2_DATASETS", given)
    monkeypatch.chdir(tmp_path)
    assert len(DatasetCatalog.get("assr_train")) == 5


def test_registering_again_moves_the_root(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "one" / "ASSR")
    make_assr_folder(tmp_path / "two" / "ASSR", values=[(1.0,)])
    for root, count in (("one", 5), ("two", 1)):
        register_all(tmp_path / root)
        assert len(DatasetCatalog.get("assr_train")) == count


def test_another_root_forgets_what_detectron2_noted_about_the_old_one(tmp_path: Path) -> None:
    register_all(str(tmp_path / "first"))
    MetadataCatalog.get("assr_test").json_file = "of the first.json"
    register_all(str(tmp_path / "first"))
    assert MetadataCatalog.get("assr_test").json_file == "of the first.json"
    register_all(str(tmp_path / "second"))
    assert not hasattr(MetadataCatalog.get("assr_test"), "json_file")


def test_the_same_source_may_have_other_classes_now() -> None:
    source = DatasetCatalog.data["assr_test"]
    for classes in (["a"], ["a", "b"]):
        assert register_source("changing", source, "sor", thing_classes=classes)
        assert MetadataCatalog.get("changing").thing_classes == classes
    DatasetCatalog.remove("changing")
    MetadataCatalog.remove("changing")


def test_config_sets_root_and_rankless(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "ASSR")
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.DATASETS.ROOT = str(tmp_path)
    cfg.DATASETS.KEEP_RANKLESS = True
    register_from_config(cfg)
    assert sum(len(item["annotations"]) for item in DatasetCatalog.get("assr_train")) == 14


def test_names_of_other_code_are_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DatasetCatalog, "data", {**DatasetCatalog.data, "assr_val": list})
    register_all("elsewhere")
    assert DatasetCatalog.data["assr_val"] is list


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(DatasetError, match="assr_train"):
        load_records("coco_2017_train")


def test_own_data_gets_the_name_of_an_absent_published_dataset(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_coco_folder(tmp_path / "IRSR")
    register_all(tmp_path)
    assert source_of("irsr_train").kind == "coco"
    make_irsr_folder(tmp_path / "IRSR")
    register_all(tmp_path)
    assert source_of("irsr_train").kind == "irsr"
    assert "rank_train.json: not registered, dataset irsr_train is that of" in caplog.text


def test_of_two_folders_with_one_name_the_first_is_registered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_coco_folder(tmp_path / "My-Set")
    make_coco_folder(tmp_path / "my set")
    register_all(tmp_path)
    assert source_of("my_set_train").folder == "My-Set"
    assert "my set/annotations/rank_train.json: not registered" in caplog.text
