"""Files are written whole, with a checksum that notices damage, and with what they were trained with."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sor_ppa import __version__
from sor_ppa.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    read_checkpoint,
    read_checkpoint_info,
    save_safetensors,
    write,
)

from . import files

INFO = CheckpointInfo("MODEL:\n  DEVICE: cpu\n", ("person", "öbject"))


def write_both(folder: Path, value: float, kind: str = "pth") -> Path:
    """Write a file of one of the two formats."""
    path = folder / f"w.{kind}"
    if kind == "pth":
        write.save_torch(path, {"model": {"a": torch.full((9,), value)}, "sor_ppa": asdict(INFO)})
    else:
        save_safetensors(path, {"a": torch.full((9,), value)}, INFO)
    return path


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_flipped_bit_is_noticed(kind: str, tmp_path: Path) -> None:
    path = write_both(tmp_path, 1.0, kind)
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(9).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    message = files.refusal(path)
    assert f"as in w.{kind}.sha256: the file is damaged" in message


def test_the_checksum_is_that_of_sha256sum(tmp_path: Path) -> None:
    path = write_both(tmp_path, 1.0)
    digest, name = (tmp_path / "w.pth.sha256").read_text().split()
    assert name == "w.pth"
    (tmp_path / "w.pth.sha256").write_text(f"{'0' * 64} *w.pth\n")
    assert f"found SHA-256 {digest[:12]}..., expected '000000000000'" in files.refusal(path)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("step", range(4))
def test_a_crash_at_any_step_leaves_a_file_that_can_be_read(
    step: int, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_both(tmp_path, 1.0, kind)
    steps = []

    def crashing(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            steps.append(function)
            if len(steps) > step:
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return call

    for function in (os.replace, os.fsync):  # of the file, then of the checksum
        monkeypatch.setattr(os, function.__name__, crashing(function))
    with pytest.raises(KeyboardInterrupt):
        write_both(tmp_path, 2.0, kind)
    monkeypatch.undo()
    assert read_checkpoint(path).tensors["a"].tolist() == [1.0 if step < 2 else 2.0] * 9
    assert not list(tmp_path.glob("*.part"))
    assert read_checkpoint(write_both(tmp_path, 3.0, kind)).tensors["a"].tolist() == [3.0] * 9


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(CheckpointError, match=rf"^disk full: {tmp_path}/w\.pth$"):
        write_both(tmp_path, 2.0)


def test_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no/w\.safetensors: cannot be written"):
        save_safetensors(tmp_path / "no" / "w.safetensors", {"a": torch.ones(1)})


def test_tied_and_transposed_tensors_are_written(tmp_path: Path) -> None:
    tied = torch.arange(6.0).reshape(2, 3)
    save_safetensors(tmp_path / "w", {"a": tied, "b": tied.t()})
    found = load_file(tmp_path / "w")
    assert torch.equal(found["a"], tied)
    assert torch.equal(found["b"], tied.t())


def test_safetensors_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
    (tmp_path / "like").touch()
    save_safetensors(tmp_path / "w", {"a": torch.ones(1)})
    assert (tmp_path / "w").stat().st_mode == (tmp_path / "like").stat().st_mode


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_the_info_comes_back(kind: str, tmp_path: Path) -> None:
    path = write_both(tmp_path, 1.0, kind)
    assert read_checkpoint_info(path) == read_checkpoint(path).info == INFO
    assert INFO.version == __version__
    assert read_checkpoint(path).extras == {}


@pytest.mark.parametrize("kind", files.FORMATS)
def test_files_from_elsewhere_have_no_info(kind: str, tmp_path: Path) -> None:
    assert read_checkpoint_info(files.write(kind, tmp_path / "w")) is None


@pytest.mark.parametrize(
    "values", [3, {}, {**asdict(INFO), "config": 1}, {**asdict(INFO), "class_names": "a"}]
)
def test_damaged_info_is_one_line(values: Any, tmp_path: Path) -> None:
    torch.save({"model": files.example(), "sor_ppa": values}, tmp_path / "w.pth")
    save_file(files.example(), tmp_path / "w.safetensors", {"sor_ppa": json.dumps(values)})
    for name in ("w.pth", "w.safetensors"):
        with pytest.raises(CheckpointError, match=rf"{name}: sor_ppa: found .*, expected text under config"):
            read_checkpoint_info(tmp_path / name)
