"""Damaged and foreign files: each refused with one line."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sor_ppa.checkpoint import CheckpointError, read_checkpoint

from . import files
from .files import refusal

HUGE = 2**50


@pytest.mark.parametrize("kind", files.FORMATS)
def test_truncated_files_are_refused(kind: str, tmp_path: Path) -> None:
    data = files.write(kind, tmp_path / "whole").read_bytes()
    path = tmp_path / "w"
    for end in sorted({1, 2, 7, 9, 40, len(data) // 2, len(data) - 20, len(data) - 1}):
        path.write_bytes(data[:end])
        refusal(path)


@pytest.mark.parametrize("kind", ["zip", "safetensors"])
def test_flipped_bits_in_the_numbers_are_found(kind: str, tmp_path: Path) -> None:
    # The zip has a checksum by its format, our safetensors in their metadata.
    path = files.write(kind, tmp_path / "w")
    data = bytearray(path.read_bytes())
    data[data.index(files.example()["conv.weight"].numpy().tobytes()) + 40] ^= 1
    path.write_bytes(data)
    assert "checksum" in refusal(path)


@pytest.mark.parametrize("kind", files.FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_weights_are_refused(kind: str, value: float, tmp_path: Path) -> None:
    state = files.example()
    state["conv.weight"][1, 2, 0, 0] = value
    message = refusal(files.write(kind, tmp_path / "w", state))
    assert message == "parameter 'conv.weight' has 1 of 108 values NaN or infinite, expected finite numbers"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64", "float8_e5m2"])
def test_non_finite_weights_of_other_types_are_refused(dtype: str, tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([float("nan")]).to(getattr(torch, dtype))}, tmp_path / "w")
    assert "NaN or infinite" in refusal(tmp_path / "w")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_big_endian_arrays_are_refused(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(pickle.dumps({"a": np.arange(3, dtype=">f4")}, protocol))
    assert "big-endian" in refusal(tmp_path / "w")


def test_big_endian_zip_is_refused(tmp_path: Path) -> None:
    members = {"data/0": bytes(16), "byteorder": b"big"}
    (tmp_path / "w").write_bytes(files.torch_zip(files.tensor_pickle(), members))
    assert "byte order b'big', expected b'little'" in refusal(tmp_path / "w")


def test_big_endian_legacy_file_is_refused(tmp_path: Path) -> None:
    path = files.write("legacy", tmp_path / "w")
    data = path.read_bytes()
    assert b"little_endianq\x02\x88" in data
    path.write_bytes(data.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89"))
    assert "big-endian" in refusal(path)


@pytest.mark.parametrize(
    "array",
    [np.array([{}, 1], object), np.array(["a"]), np.array([b"a"]), np.zeros(2, "M8[s]"), np.zeros(1, "V4")],
    ids=["object", "text", "bytes", "dates", "void"],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_arrays_of_anything_but_numbers_are_refused(array: np.ndarray, protocol: int, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(pickle.dumps({"a": array}, protocol))
    assert "expected" in refusal(tmp_path / "w")


def test_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(pickle.dumps({"a": np.zeros(2, [("x", "f4"), ("y", "O")])}, 2))
    refusal(tmp_path / "w")


def header(**tensors: Any) -> dict[str, Any]:
    return {n: {"dtype": "F32", "shape": s, "data_offsets": list(o)} for n, (s, o) in tensors.items()}


SAFETENSORS = {
    "overlap": (header(a=([2], (0, 8)), b=([2], (4, 12))), 12),
    "gap": (header(a=([1], (0, 4)), b=([1], (8, 12))), 12),
    "numbers left over": (header(a=([1], (0, 4))), 12),
    "numbers missing": (header(a=([4], (0, 16))), 8),
    "range backwards": (header(a=([1], (4, 0))), 8),
    "negative range": (header(a=([1], (-4, 0))), 8),
    "negative shape": (header(a=([-1], (0, 4))), 4),
    "huge shape": (header(a=([HUGE, HUGE], (0, 4))), 4),
    "shape of another size": (header(a=([3], (0, 8))), 8),
    "fraction as shape": (header(a=([0.5], (0, 2))), 2),
    "bool as shape": (header(a=([True], (0, 4))), 4),
    "unknown type": ({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 4]}}, 4),
    "type of another kind": ({"a": {"dtype": [], "shape": [1], "data_offsets": [0, 4]}}, 4),
    "no range": ({"a": {"dtype": "F32", "shape": [1]}}, 4),
    "number as entry": ({"a": 3}, 0),
    "metadata of another kind": ({"__metadata__": {"a": 1}}, 0),
    "no tensors": ({}, 0),
    "empty name": (header(**{"": ([1], (0, 4))}), 4),
    "control characters in a name": (header(**{"a\x1b[2J\n": ([1], (0, 4))}), 4),
    "twice the same name": (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":0}', 4),
    "no JSON": (b'{"a": [', 0),
    "no text": (b'{"\xff\xfe"}', 0),
    "deep nest": (b'{"a":' + b"[" * 100_000, 0),
    "long integer": (b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}', 4),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_damaged_safetensors_are_refused(case: str, tmp_path: Path) -> None:
    head, size = SAFETENSORS[case]
    (tmp_path / "w").write_bytes(files.safetensors_bytes(head, bytes(size)))
    refusal(tmp_path / "w")


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**39])
def test_safetensors_with_a_wrong_header_length_are_refused(length: int, tmp_path: Path) -> None:
    data = files.safetensors_bytes(header(a=([1], (0, 4))), bytes(4), length)
    (tmp_path / "w").write_bytes(data)
    refusal(tmp_path / "w")


# -- files that are something else


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nothing.pth")


def test_directory_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("is a directory")


def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "w")
    assert "not a regular file" in refusal(tmp_path / "w")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
FOREIGN = {
    "empty": (b"", "is empty"),
    "web page": (b"\n<!DOCTYPE html><html><body>Not Found</body></html>", "a web page"),
    "error in XML": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page"),
    "git-lfs pointer": (LFS, "git lfs pull"),
    "JSON": (b'{"message": "Bad credentials"}', "text that begins"),
    "text": (b"404: Not Found", "text that begins '404: Not Found'"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(20), ".npy"),
    "gzip": (b"\x1f\x8b\x08\x00" + bytes(20), "gzip"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "HDF5"),
    "zeros": (bytes(1000), "zeros"),
    "noise": (b"\xfe\xdc\xba\x98" * 10, "unknown format that begins with bytes fe dc ba 98"),
    "one byte": (b"\x80", "unknown format"),
    "list": (pickle.dumps([1, 2]), "expected a state dict"),
    "text in a pickle": (pickle.dumps("weights"), "expected a state dict"),
    "dict without tensors": (pickle.dumps({"model": {}}), "no tensors under model"),
    "state dict with text": (pickle.dumps({"model": {"a": np.ones(2), "b": "x"}}), "parameter 'b' is 'x'"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files_are_refused(case: str, tmp_path: Path) -> None:
    content, expected = FOREIGN[case]
    (tmp_path / "w.pth").write_bytes(content)
    assert expected in refusal(tmp_path / "w.pth")


def test_archives_of_other_things_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "w.npz", a=np.zeros(2))
    assert "0 data.pkl, expected one" in refusal(tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    assert "empty zip" in refusal(tmp_path / "empty.zip")
    (tmp_path / "model.json").write_text(json.dumps({}))
    with tarfile.open(tmp_path / "w.tar", "w") as archive:
        archive.add(tmp_path / "model.json", "model.json")
    assert "tar archive" in refusal(tmp_path / "w.tar")


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = files.write("zip", tmp_path / "w")
    path.chmod(0)
    if os.access(path, os.R_OK):  # a superuser reads everything
        assert read_checkpoint(path).tensors
    else:
        assert "cannot be read (Permission denied)" in refusal(path)


@pytest.mark.parametrize("kind", ["legacy", "pickle0", "pickle2", "pickle4"])
def test_bytes_behind_the_end_are_refused(kind: str, tmp_path: Path) -> None:
    path = files.write(kind, tmp_path / "w")
    path.write_bytes(path.read_bytes() + b"x")
    assert refusal(path).endswith("1 bytes behind its end")


def test_a_pickle_that_stops_early_is_refused(tmp_path: Path) -> None:
    # One flipped byte makes the end of a file of what was its middle: half of the weights would load.
    arrays = {f"w{i}": np.ones(1) for i in range(1500)}
    data = pickle.dumps(arrays, 2)
    stop = data.index(b"u(") + 1
    (tmp_path / "w").write_bytes(data[:stop] + b"." + data[stop + 1 :])
    assert "behind its end" in refusal(tmp_path / "w")
    (tmp_path / "w").write_bytes(b"\x80\x02}(X\x01\x00\x00\x00aN}.")
    assert "in the middle of an object" in refusal(tmp_path / "w")


@pytest.mark.parametrize("kind", files.FORMATS)
@pytest.mark.parametrize("change", ["cut", "extended", "emptied"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    kind: str, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.write(kind, tmp_path / "w")
    fill = WeightFile.fill

    def changing(source: WeightFile, target: memoryview, offset: int) -> None:
        fill(source, target, offset)
        size = source.size
        os.truncate(path, {"cut": size // 2, "extended": size + 1, "emptied": 0}[change])

    monkeypatch.setattr(WeightFile, "fill", changing)
    assert "changed while it was read" in refusal(path)


def test_a_name_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="embedded null byte"):
        read_checkpoint(f"{tmp_path}/a\0b")
