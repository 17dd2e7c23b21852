"""Damaged, foreign and hostile files: each is refused in one line, and nothing in it runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import resource
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_ppa.checkpoint import CheckpointError, read_checkpoint, read_weights

from . import files
from .files import refusal

HUGE = 2**50
MAGIC = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})


# -- files that want to run code

ATTACKS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "os.system": lambda s: (os.system, f"touch {s}"),
    "subprocess": lambda s: (subprocess.check_call, ["touch", s]),
    "eval": lambda s: (builtins.eval, f"open({s!r}, 'w')"),
    "open": lambda s: (builtins.open, s, "w"),
    "getattr": lambda s: (builtins.getattr, (1, 2), "count"),
    "torch.load": lambda s: (torch.load, s),
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
@pytest.mark.parametrize("wrapping", ["pickle", "zip", "legacy"])
def test_calls_are_refused_and_not_made(attack: str, wrapping: str, tmp_path: Path) -> None:
    function, *arguments = ATTACKS[attack](str(tmp_path / "ran"))
    (tmp_path / "w.pth").write_bytes(wrapped(files.raw_pickle(function, *arguments), wrapping))
    message = refusal(tmp_path / "w.pth")
    assert "nothing was executed" in message
    assert function.__name__ in message
    assert os.listdir(tmp_path) == ["w.pth"]


def test_saved_models_and_programs_are_refused(tmp_path: Path) -> None:
    for legacy in (False, True):
        torch.save(torch.nn.Linear(2, 2), tmp_path / "w", _use_new_zipfile_serialization=not legacy)
        assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "w")
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    assert "TorchScript archive, which is a program" in refusal(tmp_path / "w.pt")


def test_pickles_beside_the_structure_of_a_zip_are_not_read(tmp_path: Path) -> None:
    nested = files.raw_pickle(os.system, f"touch {tmp_path}/ran")
    members = {"data/0": np.zeros(4, "<f4").tobytes(), "extra.pkl": nested, ".data/x": nested}
    (tmp_path / "w").write_bytes(files.torch_zip(files.tensor_pickle(), members))
    assert read_weights(tmp_path / "w")["weight"].tolist() == [0, 0, 0, 0]
    assert os.listdir(tmp_path) == ["w"]


# -- small files that claim much

# sixty tuples, each of twice the one before; its hash would take 2**60 steps
NEST = b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"0"
BOMBS = {
    "key of nested tuples": NEST + b"}h\x3cNs.",
    "call with nested tuples": NEST + b"ccollections\nOrderedDict\n](](h\x3cNee\x85R.",
    "state with nested tuples": NEST + b"cargparse\nNamespace\n)\x81](](h\x3cNeeb.",
    "state of a dict with nested tuples": NEST + b"ccollections\nOrderedDict\n)R](](h\x3cNeeb.",
    "copies of a string": b"\x80\x02](X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00c_codecs\nencode\nq\x01"
    + b"h\x00\x85R" + b"h\x01h\x00\x85R" * 1000 + b"e.",
    "long string": b"\x80\x02X\xff\xff\xff\xff",
    "integer of another length": b"\x80\x02\x8b\xff\xff\xff\x7f",
    "deep nest": b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
    "control characters in a name": b"\x80\x02c\x1b[31mevil\x07\nx\n.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("wrapping", ["pickle", "zip", "legacy"])
def test_bombs_are_refused_at_once(bomb: str, wrapping: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(wrapped(BOMBS[bomb], wrapping))
    refusal(tmp_path / "w")


@pytest.mark.parametrize("wrapping", ["pickle", "zip", "legacy"])
def test_a_large_memo_index_takes_no_memory(wrapping: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(wrapped(b"\x80\x02]r\x00\x00\x00\x7f.", wrapping))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refusal(tmp_path / "w")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_hostile_files_within_a_memory_limit(tmp_path: Path) -> None:
    for i, (bomb, wrapping) in enumerate((b, w) for b in BOMBS for w in ("pickle", "zip", "legacy")):
        (tmp_path / str(i)).write_bytes(wrapped(BOMBS[bomb], wrapping))
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
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


TENSORS = {
    "huge storage": {"count": HUGE, "size": (HUGE,)},
    "huge shape": {"size": (HUGE,)},
    "huge shape of stride 0": {"size": (HUGE,), "stride": (0,)},
    "negative shape": {"size": (-4,)},
    "negative stride": {"stride": (-1,)},
    "offset behind the end": {"offset": 1},
    "stride behind the end": {"size": (2,), "stride": (4,)},
    "strides of other rank": {"stride": (1, 1)},
    "text as shape": {"size": "4"},
    "storage of another size": {"count": 3, "size": (4,)},
    "missing storage": {"key": "7"},
    "storage outside the folder": {"key": "../data.pkl"},
}


@pytest.mark.parametrize("case", TENSORS)
def test_impossible_tensors_are_refused(case: str, tmp_path: Path) -> None:
    structure = files.tensor_pickle(**TENSORS[case])
    (tmp_path / "w").write_bytes(files.torch_zip(structure, {"data/0": bytes(16)}))
    refusal(tmp_path / "w")


def test_many_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    base = torch.zeros(1000)
    torch.save({f"w{i}": base[:] for i in range(200)}, tmp_path / "w")
    assert "found tensors of 800000 bytes" in refusal(tmp_path / "w")


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", files.tensor_pickle(count=2**20, size=(2**20,)))
        archive.writestr("archive/data/0", bytes(2**22))
    assert "compressed" in refusal(tmp_path / "w")


def test_tensors_of_other_kinds_are_refused(tmp_path: Path) -> None:
    sparse, empty = torch.eye(2).to_sparse(), torch.empty(2, device="meta")
    quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    for tensor in (sparse, empty, quantized):
        torch.save({"a": tensor}, tmp_path / "w")
        refusal(tmp_path / "w")


def test_other_pickle_protocols_are_refused_with_advice(tmp_path: Path) -> None:
    torch.save(files.example(), tmp_path / "w", pickle_protocol=4)
    assert "pickle protocol 4, expected 2 (save it again" in refusal(tmp_path / "w")


# -- damage


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


@pytest.mark.parametrize("kind", files.FORMATS)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_random_damage_is_survived(kind: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = files.write(kind, Path(folder) / "w")
        content = bytearray(path.read_bytes())
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


@pytest.mark.parametrize("kind", files.FORMATS)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_non_finite_weights_are_refused(kind: str, value: float, tmp_path: Path) -> None:
    state = files.example()
    state["conv.weight"][1, 2, 0, 0] = value
    message = refusal(files.write(kind, tmp_path / "w", state))
    assert message == "parameter 'conv.weight' has 1 of 108 values NaN or infinite, expected finite numbers"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "complex64", "float8_e5m2"])
def test_non_finite_weights_of_other_types_are_refused(dtype: str, tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([float("nan")]).to(getattr(torch, dtype))}, tmp_path / "w")
    assert "NaN or infinite" in refusal(tmp_path / "w")


def header(**tensors: Any) -> dict[str, Any]:
    return {n: {"dtype": "F32", "shape": s, "data_offsets": list(o)} for n, (s, o) in tensors.items()}


SAFETENSORS = {
    "overlap": (header(a=([2], (0, 8)), b=([2], (4, 12))), 12),
    "numbers missing": (header(a=([4], (0, 16))), 8),
    "huge shape": (header(a=([HUGE, HUGE], (0, 4))), 4),
    "no tensors": ({}, 0),
    "empty name": (header(**{"": ([1], (0, 4))}), 4),
    "control characters in a name": (header(**{"a\x1b[2J\n": ([1], (0, 4))}), 4),
    "no JSON": (b'{"a": [', 0),
    "deep nest": (b'{"a":' + b"[" * 100_000, 0),
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


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nothing.pth")
    assert refusal(tmp_path).startswith("is not a file")
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").startswith("is not a file")
    with pytest.raises(CheckpointError, match="null byte"):
        read_checkpoint(f"{tmp_path}/a\0b")


def archive_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


FOREIGN = {
    "empty": (b"", "is empty"),
    "web page": (b"\n<!DOCTYPE html><html><body>Not Found</body></html>", "a web page"),
    "git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "text": (b"404: Not Found", "begins b'404: Not Found'"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(20), r"begins b'\x89PNG"),
    "zeros": (bytes(1000), r"begins b'\x00\x00"),
    "tar": (archive_of("model.json"), "begins b'model.json"),
    "arrays": (files.torch_zip(b"", folder="a").replace(b"data.pkl", b"data.npy"), "0 data.pkl"),
    "list": (pickle.dumps([1, 2]), "expected a state dict"),
    "dict without tensors": (pickle.dumps({"model": {}}), "no tensors under model"),
    "text in a state dict": (pickle.dumps({"model": {"a": np.ones(2), "b": "x"}}), "'b': found 'x'"),
    "shared lists": (b"\x80\x02](" + b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
                     + b"e.", "expected a state dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files_are_refused(case: str, tmp_path: Path) -> None:
    content, expected = FOREIGN[case]
    (tmp_path / "w.pth").write_bytes(content)
    assert expected in refusal(tmp_path / "w.pth")
