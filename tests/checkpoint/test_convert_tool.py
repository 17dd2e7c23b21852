"""tools/convert_checkpoint.py."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch

from sor_ppa.checkpoint import read_checkpoint, read_weights

from . import files

REPO = Path(__file__).resolve().parents[2]
STATE = {
    "backbone.bottom_up.stem.stem_1/conv.weight": torch.ones(2, 3, 3, 3),
    "backbone.fpn_lateral3.weight": torch.ones(1),
    "backbone.fpn_lateral4.weight": torch.ones(1),
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "convert_checkpoint", REPO / "tools" / "convert_checkpoint.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_published_names_become_ours(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": STATE}, tmp_path / "in.pth")
    assert tool.main([str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")]) == 0
    found = read_weights(tmp_path / "out.safetensors")
    assert sorted(found) == [
        "backbone.bottom_up.stem.0.conv.weight",
        "backbone.fpn_lateral3.weight",
        "backbone.fpn_lateral4.weight",
    ]
    assert capsys.readouterr().out.splitlines()[1:] == [
        "part                   tensors",
        "backbone.bottom_up           1",
        "backbone.fpn_lateral*        2",
        "1 of 3 renamed",
    ]


def refusal(tool: ModuleType, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert tool.main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def test_hostile_file_is_one_line(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.pth").write_bytes(files.raw_pickle(os.system, f"touch {tmp_path}/ran"))
    assert "system" in refusal(tool, [str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")], capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pth"]


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("out.pth", [], "found suffix '.pth', expected '.safetensors'"),
        ("no/out.safetensors", [], "cannot be written"),
        ("o.safetensors", ["--part", "neck"], "found nothing below 'neck', expected a part of backbone"),
    ],
)
def test_mistakes_are_one_line(
    output: str,
    options: list[str],
    message: str,
    tool: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(STATE, tmp_path / "in.pth")
    assert message in refusal(tool, [str(tmp_path / "in.pth"), str(tmp_path / output), *options], capsys)


def test_file_of_another_model_is_one_line(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"encoder.weight": torch.ones(1)}, tmp_path / "in.pth")
    arguments = [str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")]
    message = refusal(tool, [*arguments, "--config-file", str(REPO / "configs/sor/ppa.yaml")], capsys)
    assert "other weights: 0 of 1 tensors fit" in message


def test_config_tells_what_is_missing_and_is_written(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"stem.stem_1/conv.weight": torch.ones(64, 3, 3, 3)}, tmp_path / "in.pth")
    arguments = [str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")]
    options = ["--config-file", str(REPO / "configs/sor/ppa.yaml"), "--opts", "INPUT.MIN_SIZE_TEST", "123"]
    assert tool.main([*arguments, *options]) == 0
    found = read_checkpoint(tmp_path / "out.safetensors")
    assert list(found.tensors) == ["backbone.bottom_up.stem.0.conv.weight"]
    assert found.info is not None
    assert "MIN_SIZE_TEST: 123\n" in found.info.config
    assert "roi_heads.sor_head                 64  not in the file" in capsys.readouterr().out


def test_a_part_is_written_under_its_own_names(tool: ModuleType, tmp_path: Path) -> None:
    torch.save({"model": STATE}, tmp_path / "in.pth")
    out = tmp_path / "out.safetensors"
    assert tool.main([str(tmp_path / "in.pth"), str(out), "--part", "backbone.bottom_up"]) == 0
    assert sorted(read_weights(out)) == ["stem.0.conv.weight"]


def test_a_deeper_network_is_one_line(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layer = "backbone.bottom_up.stage{}.blocks.{}.layers.0.conv.weight"
    shapes = {(2, 0): (128, 128, 3, 3), (2, 1): (128, 256, 3, 3), (3, 0): (160, 256, 3, 3)}
    torch.save({layer.format(*at): torch.ones(shape) for at, shape in shapes.items()}, tmp_path / "in.pth")
    arguments = [str(tmp_path / "in.pth"), str(tmp_path / "out.safetensors")]
    message = refusal(tool, [*arguments, "--config-file", str(REPO / "configs/sor/ppa.yaml")], capsys)
    assert "of a network with more layers: 1 parameters" in message
    assert not (tmp_path / "out.safetensors").exists()
