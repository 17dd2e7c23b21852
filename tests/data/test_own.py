from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from sor_ppa import add_sor_config
from sor_ppa.cli import main
from sor_ppa.config import ConfigError, check_config
from sor_ppa.data import DatasetError
from sor_ppa.data.builtin import register_all, source_of
from sor_ppa.data.export import write_records
from sor_ppa.data.own import register_datasets, register_own
from sor_ppa.evaluation.checks import InputError
from sor_ppa.evaluation.ground_truth import read_truth
from tests.data.folders import (
    make_assr_folder,
    make_coco_folder,
    make_irsr_folder,
    make_painted_folder,
    make_seqrank_folder,
    make_sifr_folder,
    write_pictures,
)

RANKED: dict[str, Callable[[Path], Path]] = {
    "assr": make_assr_folder,
    "irsr": make_irsr_folder,
    "sifr": make_sifr_folder,
    "seqrank": make_seqrank_folder,
    "painted": make_painted_folder,
    "coco": make_coco_folder,
}


@pytest.fixture(autouse=True)
def _registered() -> object:
    before = dict(DatasetCatalog.data)
    yield
    for name in set(DatasetCatalog.data) - set(before):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    register_all()


@pytest.mark.parametrize("kind", list(RANKED))
@pytest.mark.parametrize("part", ["", ":train"])
def test_a_folder_of_every_ranking_format(kind: str, part: str, tmp_path: Path) -> None:
    folder = RANKED[kind](tmp_path / "any name")
    name = register_own(f"{'mine' if part else 'mine_train'}={kind}:{folder}{part}")
    assert len(DatasetCatalog.get(name)) == 5
    assert MetadataCatalog.get(name).evaluator_type == "sor"


def test_an_annotation_file_and_its_images(tmp_path: Path) -> None:
    folder = make_coco_folder(tmp_path / "set")
    file, images = tmp_path / "elsewhere.json", folder / "images" / "train"
    (folder / "annotations/rank_train.json").rename(file)
    assert len(DatasetCatalog.get(register_own(f"mine=coco:{file}:{images}"))) == 5


def test_a_converted_set_loads_under_any_folder(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "ASSR")
    register_all(tmp_path)
    write_records(source_of("assr_train").read(), tmp_path / "first", "seqrank", "train")
    (tmp_path / "first").rename(tmp_path / "second")
    assert len(DatasetCatalog.get(register_own("mine_train=seqrank:second", tmp_path))) == 5


def test_saliency_folders(tmp_path: Path) -> None:
    write_pictures(tmp_path / "set/images", "a", 2)
    write_pictures(tmp_path / "set/masks", "a", 2)
    assert len(DatasetCatalog.get(register_own(f"mine=sod:{tmp_path / 'set'}"))) == 2


def test_the_configuration_registers_them(tmp_path: Path) -> None:
    make_assr_folder(tmp_path / "set")
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.DATASETS.ROOT, cfg.DATASETS.KEEP_RANKLESS = str(tmp_path), True
    cfg.DATASETS.OWN = ["mine_train=assr:set"]
    register_datasets(cfg)
    assert sum(len(item["annotations"]) for item in DatasetCatalog.get("mine_train")) == 14
    cfg.DATASETS.OWN = ["mine_train"]
    with pytest.raises(ConfigError, match=r"DATASETS\.OWN: expected .*'name=format:path'"):
        check_config(cfg, model=False)


def test_commands_take_them_in_place_of_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = f"mine_train=assr:{make_assr_folder(tmp_path / 'set')}"
    assert main(["data", "check", entry, "--fast"]) == 0
    assert "mine_train: 5 usable images" in capsys.readouterr().out
    assert len(read_truth(entry)) == 5
    expected = [item["annotations"] for item in read_truth(entry)]
    file = (tmp_path / "set").rename(tmp_path / "a:b=c") / "obj_seg_data_train.json"
    assert [item["annotations"] for item in read_truth(str(file))] == expected
    with pytest.raises(InputError, match=r"other\.json: expected the name obj_seg_data_SPLIT\.json"):
        read_truth(str(file.rename(file.with_name("other.json"))))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("mine=lmdb:x", "DATASETS.OWN: expected 'name=format:path' with a format of assr, "),
        ("mine=assr:nowhere", "dataset mine: expected datasets/nowhere, found no such file or folder"),
        ("assr_train=sod:.", "taken by another kind of dataset"),
    ],
)
def test_mistakes_are_one_line(
    entry: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        register_own(entry)


def test_a_file_without_classes_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"images": [], "annotations": [], "categories": [{"id": 1}]}))
    with pytest.raises(DatasetError, match=r"a\.json: expected categories with id and name"):
        register_own(f"mine=detection:{tmp_path / 'a.json'}")
