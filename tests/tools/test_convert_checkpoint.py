"""tools/convert_checkpoint.py."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import pytest
import torch

from sor_ppa.checkpoint import read_checkpoint, read_weights
from tests.models import REPO

main = runpy.run_path(str(REPO / "tools" / "convert_checkpoint.py"))["main"]
PPA = ["--config-file", str(REPO / "configs/sor/ppa.yaml")]
STATE = {
    "backbone.bottom_up.stem.stem_1/conv.weight": torch.ones(2, 3, 3, 3),
    "backbone.fpn_lateral3.weight": torch.ones(1),
    "backbone.fpn_lateral4.weight": torch.ones(1),
}


def convert(
    folder: Path, state: dict[str, torch.Tensor], *options: str, output: str = "o.safetensors"
) -> int:
    torch.save({"model": state}, folder / "in.pth")
    return main([str(folder / "in.pth"), str(folder / output), *options])


def test_published_names_become_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(tmp_path, STATE) == 0
    names = ["backbone.bottom_up.stem.0.conv.weight", *list(STATE)[1:]]
    assert sorted(read_weights(tmp_path / "o.safetensors")) == names
    assert capsys.readouterr().out.splitlines()[1:] == [
        "part                   tensors",
        "backbone.bottom_up           1",
        "backbone.fpn_lateral*        2",
        "1 of 3 renamed",
    ]


def test_a_part_is_written_under_its_own_names(tmp_path: Path) -> None:
    assert convert(tmp_path, STATE, "--part", "backbone.bottom_up") == 0
    assert sorted(read_weights(tmp_path / "o.safetensors")) == ["stem.0.conv.weight"]


def test_config_tells_what_is_missing_and_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = {"stem.stem_1/conv.weight": torch.ones(64, 3, 3, 3)}
    assert convert(tmp_path, state, *PPA, "--opts", "INPUT.MIN_SIZE_TEST", "123") == 0
    found = read_checkpoint(tmp_path / "o.safetensors")
    assert list(found.tensors) == ["backbone.bottom_up.stem.0.conv.weight"]
    assert found.info is not None
    assert "MIN_SIZE_TEST: 123\n" in found.info.config
    assert "roi_heads.sor_head                 64  not in the file" in capsys.readouterr().out


LAYER = "backbone.bottom_up.stage{}.blocks.{}.layers.0.conv.weight"
SHAPES = {(2, 0): (128, 128, 3, 3), (2, 1): (128, 256, 3, 3), (3, 0): (160, 256, 3, 3)}
DEEPER = {LAYER.format(*at): torch.ones(shape) for at, shape in SHAPES.items()}
MISTAKES = {
    "suffix": (STATE, [], "out.pth", "found suffix '.pth', expected '.safetensors'"),
    "folder": (STATE, [], "no/o.safetensors", "cannot be written"),
    "part": (
        STATE,
        ["--part", "neck"],
        "o.safetensors",
        "found nothing below 'neck', expected a part of backbone",
    ),
    "model": ({"a.weight": torch.ones(1)}, PPA, "o.safetensors", "other weights: 0 of 1 tensors fit"),
    "depth": (DEEPER, PPA, "o.safetensors", "of a network with more layers: 1 parameters"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_one_line(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, options, output, message = MISTAKES[mistake]
    assert convert(tmp_path, state, *options, output=output) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert message in err
    assert os.listdir(tmp_path) == ["in.pth"]
