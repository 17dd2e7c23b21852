"""The command ``sor-ppa profile``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sor_ppa import cli, profiling
from tests.siamese_detr.tiny import tiny_cfg


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a small detector; memory is not measured."""
    monkeypatch.setattr(profiling, "peak_memory", lambda *_: (2**20, 2**21))
    (tmp_path / "tiny.yaml").write_text(tiny_cfg("RankingDETR").dump())
    return tmp_path / "tiny.yaml"


def run(*words: object) -> int:
    return cli.main(["profile", *map(str, words)])


def test_the_table_and_the_json_hold_the_same_figures(config: Path, tmp_path: Path, capsys):
    file = tmp_path / "profile.json"
    options = ("--repeats", 1, "--depth", 1, "--size", "64x96,48x48", "--batch-size", "1,2")
    assert run("--config-file", config, "--output", file, *options, "MODEL.DEVICE", "cpu") == 0
    out = capsys.readouterr().out
    content = json.loads(file.read_text())
    assert content["architecture"] == "RankingDETR"
    sizes = [(p["height"], p["width"], p["batch"]) for p in content["profiles"]]
    assert sizes == [(64, 96, 1), (64, 96, 2), (48, 48, 1), (48, 48, 2)]
    first = content["profiles"][0]
    assert first["objects"] == 20  # random weights keep every query
    assert "RankingDETR, 64 x 96, batch 1, cpu" in out
    assert "20 objects an image" in out
    assert "memory  1 MiB loaded, 2 MiB at most" in out
    (row,) = [line for line in out.split("\n\n")[1].splitlines() if line.startswith("total")]
    assert row.split()[1] == f"{first['total']['parameters']:,}"
    assert row.split()[2] == f"{first['total']['flops'] / 1e9:.3f}"


def test_json_alone_is_printed(config: Path, capsys):
    assert run("--config-file", config, "--size", "48x48", "--repeats", 1, "--json") == 0
    assert json.loads(capsys.readouterr().out)["profiles"][0]["peak_bytes"] == 2**21


def test_a_model_is_asked_for(capsys):
    assert run() == 2
    assert "expected --config-file FILE or --model NAME, found neither" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "480x640,640", "expected height x width such as 480x640, found '480x640,640'"),
        ("--batch-size", "1,x", "expected numbers such as 1,4, found '1,x'"),
    ],
)
def test_unusable_lists_are_refused(option: str, value: str, message: str, capsys):
    with pytest.raises(SystemExit):
        run(option, value)
    assert message in capsys.readouterr().err
