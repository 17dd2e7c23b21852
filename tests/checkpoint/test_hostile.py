"""Damaged, foreign and hostile files: each is refused in one line, and nothing in it runs."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_ppa.checkpoint import CheckpointError, read_checkpoint
from tests.test_restricted_pickle import NEST, PROGRAMS

from . import files
from .files import refusal

WRAPPINGS = ("pickle", "zip", "legacy")
MAGIC = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
ATTACKS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "os.system": lambda s: (os.system, f"touch {s}"),
    "open": lambda s: (builtins.open, s, "w"),
    "getattr": lambda s: (builtins.getattr, (1, 2), "count"),
    "numpy.memmap": lambda s: (np.memmap, s, "u1", "w+", 0, (1,)),
    "pickle.loads": lambda s: (pickle.loads, files.raw_pickle(os.system, f"touch {s}")),
}


def wrapped(structure: bytes, wrapping: str) -> bytes:
    """The same pickle as a file of another format."""
    if wrapping == "zip":
        return files.torch_zip(structure)
    if wrapping == "legacy":
        return b"".join(pickle.dumps(value, 2) for value in MAGIC) + structure + pickle.dumps([], 2)
    return structure


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_calls_are_refused_and_not_made(attack: str, wrapping: str, tmp_path: Path) -> None:
    function, *arguments = ATTACKS[attack](str(tmp_path / "ran"))
    (tmp_path / "w.pth").write_bytes(wrapped(files.raw_pickle(function, *arguments), wrapping))
    message = refusal(tmp_path / "w.pth")
    assert "nothing was executed" in message
    assert function.__name__ in message
    assert os.listdir(tmp_path) == ["w.pth"]


def test_saved_models_and_programs_are_refused(tmp_path: Path) -> None:
    for kind in ("zip", "legacy"):
        files.WRITERS[kind](torch.nn.Linear(2, 2), tmp_path / "w")
        assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "w")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    assert "TorchScript archive, which is a program" in refusal(tmp_path / "w.pt")


REBUILD = b"ctorch._tensor\n_rebuild_from_type_v2\n(ccollections\nOrderedDict\nN(](](h\x3cNeetNtR."
BOMBS = PROGRAMS | {
    "call by torch with nested tuples": NEST + REBUILD,
    "call of nested tuples": NEST + b"h\x3c)R.",
    "storage named by nested tuples": NEST
    + b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nh\x3ch\x00K\x01NtQ.",
    "state with nested tuples": NEST + b"cargparse\nNamespace\n)\x81](](h\x3cNeeb.",
    "state of a dict with nested tuples": NEST + b"ccollections\nOrderedDict\n)R](](h\x3cNeeb.",
    "text of nested lists": b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
    + b"0ctorch.torch_version\nTorchVersion\nh\x3c\x85\x81.",
    "large memo index": b"\x80\x02]r\x00\x00\x00\x7f.",
    "deep nest": b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
}  # fmt: skip


def test_bombs_are_refused_within_limits_of_time_and_memory(tmp_path: Path) -> None:
    for bomb, content in BOMBS.items():
        for wrapping in WRAPPINGS:
            (tmp_path / f"{bomb} {wrapping}").write_bytes(wrapped(content, wrapping))
    program = f"""
import os, resource
from sor_ppa.checkpoint import CheckpointError, read_checkpoint
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
for name in sorted(os.listdir({str(tmp_path)!r})):
    try:
        read_checkpoint(os.path.join({str(tmp_path)!r}, name))
    except CheckpointError:
        continue
    raise SystemExit(name)
"""
    repository = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=repository, timeout=120)


@pytest.mark.parametrize(
    "tensors",
    [{f"w{i}": torch.zeros(1000)[:] for i in range(2)}, {"huge": torch.zeros(1).expand(2**50)}],
    ids=["views", "stride 0"],
)
def test_tensors_larger_than_the_file_are_refused(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    base = next(iter(tensors.values()))
    torch.save({**tensors, **{f"v{i}": base[:] for i in range(200)}}, tmp_path / "w")
    assert "found tensors of" in refusal(tmp_path / "w")


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2**20)}, tmp_path / "whole")
    with (
        zipfile.ZipFile(tmp_path / "whole") as whole,
        zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in whole.namelist():
            archive.writestr(name, whole.read(name))
    assert "compressed" in refusal(tmp_path / "w")


def test_tensors_of_other_kinds_are_refused(tmp_path: Path) -> None:
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    for tensor in (torch.eye(2).to_sparse(), torch.empty(2, device="meta"), quantized):
        torch.save({"a": tensor}, tmp_path / "w")
        refusal(tmp_path / "w")


def test_other_pickle_protocols_are_refused_with_advice(tmp_path: Path) -> None:
    torch.save(files.example(), tmp_path / "w", pickle_protocol=4)
    assert "pickle protocol 4, expected 2 (save it again" in refusal(tmp_path / "w")


@pytest.mark.parametrize("kind", files.FORMATS)
def test_truncated_files_are_refused(kind: str, tmp_path: Path) -> None:
    data = files.write(kind, tmp_path / "whole").read_bytes()
    for end in sorted({1, 2, 7, 9, 40, len(data) // 2, len(data) - 20, len(data) - 1}):
        (tmp_path / "w").write_bytes(data[:end])
        refusal(tmp_path / "w")


def test_a_flipped_bit_in_an_archive_is_found(tmp_path: Path) -> None:
    data = bytearray(files.write("zip", tmp_path / "w").read_bytes())
    data[data.index(files.example()["conv.weight"].numpy().tobytes()) + 40] ^= 1
    (tmp_path / "w").write_bytes(data)
    assert "another checksum" in refusal(tmp_path / "w")


@cache
def whole_file(kind: str) -> bytes:
    """The same bytes each time: files of one state differ, because the "legacy" kind writes addresses."""
    with tempfile.TemporaryDirectory() as folder:
        return files.write(kind, Path(folder) / "w").read_bytes()


@pytest.mark.parametrize("kind", files.FORMATS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_random_damage_is_survived(kind: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w"
        content = bytearray(whole_file(kind))
        for _ in range(data.draw(st.integers(1, 4), label="flips")):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        begin = data.draw(st.integers(0, len(content)), label="cut")
        end = data.draw(st.one_of(st.just(begin), st.integers(begin, len(content))))
        path.write_bytes(content[:begin] + data.draw(st.binary(max_size=8)) + content[end:])
        tensors: dict[str, torch.Tensor] = {}
        message = f"{path}: "
        try:
            tensors = read_checkpoint(path, allow_non_finite=True).tensors
        except CheckpointError as error:
            message = str(error)
        assert message.startswith(f"{path}: ")
        assert message.isprintable()
        assert all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "complex64", "float8_e5m2"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_non_finite_weights_are_refused_unless_allowed(dtype: str, value: float, tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([1.0, value]).to(getattr(torch, dtype))}, tmp_path / "w")
    message = refusal(tmp_path / "w")
    assert message == "parameter 'a' has 1 of 2 values NaN or infinite, expected finite numbers"
    assert len(read_checkpoint(tmp_path / "w", allow_non_finite=True).tensors["a"]) == 2


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nothing.pth")
    assert refusal(tmp_path).startswith("is not a file")
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("is not a file")
    with pytest.raises(CheckpointError, match="null byte"):
        read_checkpoint(f"{tmp_path}/a\0b")


FOREIGN = {
    "empty": (b"", "is empty"),
    "web page": (b"\n<!DOCTYPE html><html><body>Not Found</body></html>", "a web page"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "text": (b"404: Not Found", "begins b'404: Not Found'"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(20), r"begins b'\x89PNG"),
    "arrays": (files.torch_zip(b"", "a/data.npy"), "0 data.pkl"),
    "list": (pickle.dumps([1, 2]), "expected a state dict"),
    "dict without tensors": (pickle.dumps({"model": {}}), "no tensors under model"),
    "text in a state dict": (pickle.dumps({"model": {"a": np.ones(2), "b": "x"}}), "'b': found 'x'"),
    "control characters": (pickle.dumps({"a\x1b[2J\n": np.ones(2)}), "expected a printable name"),
    "safetensors without tensors": (b"\x02" + bytes(7) + b"{}", "no tensors"),
    "safetensors without JSON": (b"\x02" + bytes(7) + b"{[", "damaged"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files_are_refused(case: str, tmp_path: Path) -> None:
    content, expected = FOREIGN[case]
    (tmp_path / "w.pth").write_bytes(content)
    assert expected in refusal(tmp_path / "w.pth")
