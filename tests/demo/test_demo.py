import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sor_ppa.building
from tests.fake_model import FakeModel

SCRIPT = Path(__file__).resolve().parents[2] / "demo" / "demo.py"


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("demo_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config file; every model that is built is a fake one."""
    monkeypatch.setattr(sor_ppa.building, "build_checked_model", lambda cfg: FakeModel())
    path = tmp_path / "config.yaml"
    path.write_text(
        "VERSION: 2\nINPUT: {MIN_SIZE_TEST: 32}\n"
        "MODEL: {META_ARCHITECTURE: SalientObjectRanker, ROI_HEADS: {NAME: CenterROIHeads}}\n"
    )
    return str(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(np.full((30 + i, 40, 3), 200, np.uint8)).save(folder / f"p{i}.png")
    return folder


def _opts(demo, *words):
    return demo.parse(["--output", "out", *words])


def test_resize_is_a_config_option(demo):
    args = _opts(
        demo, "--task", "saliency", "--input", "a.jpg", "--resize", "static", "MODEL.WEIGHTS", "w.pth"
    )
    assert args.opts == ["MODEL.WEIGHTS", "w.pth", "MODEL.INSPYRENET.RESIZE", "static"]


@pytest.mark.parametrize("before", [[], ["--opts"], ["--batch-size", "2"]])
def test_config_options_are_found_wherever_they_stand(demo, tmp_path, monkeypatch, before):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "IMG.JPG").touch()  # a name like that of a key
    args = _opts(demo, "--input", "IMG.JPG", "b.jpg", *before, "MODEL.WEIGHTS", "w.pth")
    assert args.input == ["IMG.JPG", "b.jpg"]
    assert args.opts == ["MODEL.WEIGHTS", "w.pth"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--input: no picture"),
        (["--input", "MODEL.WEIGHTS", "x"], "--input: no picture"),
        (["--input", "a.jpg", "--opts", "MODEL.WEIGHTS"], "expected KEY VALUE pairs"),
        (["--input", "a.jpg", "--batch-size", "0"], "--batch-size: expected 1"),
        (["--input", "a.jpg", "--confidence-threshold", "7"], "--confidence-threshold: expected 0 to 1"),
        (["--video-input", "a.mp4"], "video is not supported"),
    ],
)
def test_wrong_arguments_are_named(demo, capsys, words, message):
    with pytest.raises(SystemExit) as caught:
        _opts(demo, *words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_pictures_in_results_out(demo, config, photos, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--config-file", config, "--input", str(photos), "--output", str(out)]
    assert demo.main([*words, "MODEL.WEIGHTS", ""]) == 0
    assert len(list(out.iterdir())) == 9
    printed = capsys.readouterr().out
    assert printed.startswith("3 images, 9 objects (6 ranked)")
    assert "s per image" in printed
    assert [o["rank"] for o in json.loads((out / "p0.json").read_text())["objects"]] == [1, 2, None]

    assert demo.main([*words, "--confidence-threshold", "0.45", "MODEL.WEIGHTS", ""]) == 0
    scores = [o["score"] for o in json.loads((out / "p0.json").read_text())["objects"]]
    assert 0 < len(scores) < 3
    assert min(scores) >= 0.45

    (photos / "bad.png").write_bytes(b"no picture")
    assert demo.main([*words, "--input", str(photos), "missing.jpg", "MODEL.WEIGHTS", ""]) == 1
    streams = capsys.readouterr()
    assert "missing.jpg: no such file or folder" in streams.err
    assert "1 unreadable" in streams.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "missing.jpg"], "no pictures to rank"),
        (["--config-file", "missing.yaml"], "missing.yaml: expected a config file"),
        (["MODEL.WEIGHTS", "missing.pth"], "MODEL.WEIGHTS: no such file: missing.pth"),
        (["MODEL.NO_SUCH_KEY", "1"], "MODEL.NO_SUCH_KEY"),
        ([], "MODEL.WEIGHTS: expected a weight file"),
        (["--salience-maps", "MODEL.WEIGHTS", ""], "expected a model with salience maps"),
    ],
)
def test_what_stops_the_run_is_one_line(demo, config, photos, tmp_path, capsys, words, message):
    base = ["--config-file", config, "--input", str(photos), "--output", str(tmp_path / "out")]
    assert demo.main([*base, *words]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert message in errors[-1]
    assert not (tmp_path / "out").exists()


def test_the_script_runs_from_any_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--help"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "--confidence-threshold" in done.stdout
