from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest

from sor_ppa.cli import main
from tests.data.folders import edit, make_assr_folder, make_coco_folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_assr_folder(tmp_path / "ASSR").parent


def run(root: Path, *arguments: str) -> int:
    return main(["data", arguments[0], "--root", str(root), *arguments[1:]])


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
def test_a_missing_dataset_is_one_line(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    make_assr_folder(tmp_path / "ASSR", values=[()])
    assert run(tmp_path, "stats", "assr_train", "--output", str(tmp_path / "out")) == 0


def test_list_command_says_what_exists(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "list") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " complete " in lines["assr_train"]
    assert " folder exists " in lines["assr_val"]
    assert " missing " in lines["irsr_train"]


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
    assert run(tmp_path, "show", "set_train", "--output", str(tmp_path / "out")) == 0
    assert len(list((tmp_path / "out").iterdir())) == 5
