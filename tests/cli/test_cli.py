"""The command ``sor-ppa``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sor_ppa import cli
from sor_ppa.cli import _model
from tests.models import REPO
from tests.ranked import BrightSquares


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is one that finds bright squares."""
    monkeypatch.setattr(_model.SORPredictor, "from_pretrained", lambda *_, **__: FilePredictor())


class FilePredictor(BrightSquares):
    """Also takes a file, as the real predictor does."""

    def __call__(self, pictures):
        if isinstance(pictures, Path):
            return super().__call__([np.asarray(Image.open(pictures))])[0]
        return super().__call__(pictures)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.full((60, 160, 3), 20, np.uint8)
    pixels[10:40, 110:140] = 250
    pixels[10:40, 10:40] = 200
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.mark.parametrize("command", ["", *cli.COMMANDS])
def test_help_of_every_command(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        run(*command.split(), "--help")
    assert stop.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_the_list_of_commands_is_shown_without_importing_torch() -> None:
    code = (
        "import contextlib, sys, sor_ppa_cli\n"
        "with contextlib.suppress(SystemExit): sor_ppa_cli.main(['--help'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert all(f"  {command} " in shown.stdout for command in cli.COMMANDS)


def test_importing_the_package_imports_little_beside_torch_and_detectron2() -> None:
    code = (
        "import sys, detectron2.modeling, detectron2.data, detectron2.evaluation, detectron2.engine\n"
        "before = set(sys.modules)\n"
        "import sor_ppa\n"
        "slow = {'timm', 'skimage.segmentation', 'scipy.sparse', 'matplotlib.pyplot', 'sor_ppa.engine'}\n"
        "sys.exit(', '.join(slow & (set(sys.modules) - before)) or 0)"
    )
    imported = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)
    assert imported.returncode == 0, imported.stderr


def test_rank_writes_a_picture_a_map_and_json(predictor, photo: Path, tmp_path: Path, capsys):
    assert run("rank", photo, "--output", tmp_path / "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "photo.json",
        "photo_ranked.jpg",
        "photo_saliency.png",
    ]
    out, err = capsys.readouterr()
    assert out.startswith("1 images, 2 objects (2 ranked)")
    assert "model: contrast; a trained one is better: sor-ppa models get ppa-v39" in err
    assert run("rank", photo, "--output", tmp_path / "out") == 0
    assert "1 done before" in capsys.readouterr().out
    assert run("rank", photo, "--output", tmp_path / "out", "--legend") == 0
    assert capsys.readouterr().out.startswith("1 images")
    settings = json.loads((tmp_path / "out" / "photo.json").read_text())["settings"]
    assert (settings["legend"], settings["confidence_threshold"]) == (True, 0)


def test_rank_reports_unreadable_photos_and_exits_with_1(predictor, photo: Path, tmp_path: Path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert run("rank", photo, tmp_path / "bad.png", "--output", tmp_path / "out", "--model", "contrast") == 1
    assert "unreadable.json" in capsys.readouterr().err
    assert (tmp_path / "out" / "photo.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rank"], "expected photos to rank, or --watch DIR"),
        (["rank", "PHOTO", "--model", "no-such-model"], "no-such-model"),
        (["crop", "PHOTO", "--aspect", "wide"], "aspect: expected such as 16:9"),
        (["crop", "PHOTO", "--size", "wide"], "aspect: expected such as 16:9"),
        (["models", "get", "none"], "none: expected one of ppa-v39"),
        (["models", "get", "siamese-detr-pretrain"], "download it from https://github.com/Zx55/SiameseDETR"),
    ],
)
def test_mistakes_are_one_line_and_exit_with_2(words: list[str], message: str, photo: Path, capsys, tmp_path):
    words = [word.replace("PHOTO", str(photo)) for word in words]
    assert run(*words) == 2
    err = capsys.readouterr().err.splitlines()
    assert message.replace("PHOTO", str(photo)) in err[-1]
    assert err[-1].startswith(f"sor-ppa {words[0]}: ")


def test_crop_keeps_the_most_salient_object(predictor, photo: Path, tmp_path: Path, capsys):
    assert run("crop", photo, "--size", "30x30", "--output", tmp_path / "out") == 0
    (entry,) = json.loads((tmp_path / "out" / "crops.json").read_text())
    assert entry["objects"] == [{"rank": 1, "kept": 1.0}, {"rank": 2, "kept": 0.0}]
    assert Image.open(tmp_path / "out" / "photo_crop.png").size == (30, 30)
    assert "cuts object 2 (0% kept)" in capsys.readouterr().out


def test_models_are_listed_as_a_table_and_as_json(capsys):
    assert run("models") == 0
    table = capsys.readouterr().out
    assert "ppa-v39" in table
    assert run("models", "list", "--task", "rank", "--json") == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)] == ["ppa-v39"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--ray", "photos"], "expected photos to rank, or --watch DIR, found none before --ray photos"),
        (["photos", "--ray", "--format", "files"], "--ray: expected --format parquet or coco and no --watch"),
        (["photos", "--ray", "--shard-size", "0"], "--shard-size: expected 1 to 1000000, found 0"),
    ],
)
def test_options_that_do_not_go_with_ray_are_refused(words: list[str], error: str, capsys):
    assert run("rank", *words) == 2
    assert error in capsys.readouterr().err


def test_labels_of_a_ranker_are_a_dataset_that_training_reads(predictor, photo: Path, tmp_path: Path, capsys):
    root = tmp_path / "datasets"
    assert run("data", "label", photo, "--output", root / "mine", "--model", "contrast") == 0
    assert "1 photos labeled" in capsys.readouterr().out
    assert run("data", "check", "mine_train", "--root", root) == 0
    assert "1 usable images, 2 objects, 2 of them ranked" in capsys.readouterr().out
