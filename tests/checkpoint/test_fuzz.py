"""Random damage: a file is either read or refused with one line; nothing else happens."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_ppa.checkpoint import CheckpointError, read_checkpoint

from . import files

MAX_BYTES = 1 << 12


def whole(kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return files.write(kind, Path(folder) / "w").read_bytes()


def attack(kind: str, sentinel: Path) -> bytes:
    data = files.raw_pickle(os.mkdir, str(sentinel), protocol=0 if kind == "pickle0" else 2)
    return files.torch_zip(data) if kind == "zip" else data


def survives(data: bytes, path: Path) -> None:
    """Read a file; anything but tensors or a one-line refusal fails the test."""
    path.write_bytes(data)
    tensors: dict[str, torch.Tensor] = {}
    message = f"{path}: "
    try:
        tensors = read_checkpoint(path, allow_non_finite=True).tensors
    except CheckpointError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert all(isinstance(t, torch.Tensor) for t in tensors.values())
    assert sum(t.numel() * t.element_size() for t in tensors.values()) <= 20 * len(data)


@pytest.mark.parametrize("kind", files.FORMATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bits(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(whole(kind))
    for _ in range(data.draw(st.integers(1, 4), label="flips")):
        position = data.draw(st.integers(0, len(damaged) - 1), label="byte")
        damaged[position] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    with tempfile.TemporaryDirectory() as folder:
        survives(bytes(damaged), Path(folder) / "w")


@pytest.mark.parametrize("kind", files.FORMATS)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cut_and_spliced(kind: str, data: st.DataObject) -> None:
    content = whole(kind)
    begin = data.draw(st.integers(0, len(content)), label="begin")
    end = data.draw(st.integers(begin, len(content)), label="end")
    filling = data.draw(st.binary(max_size=16), label="filling")
    with tempfile.TemporaryDirectory() as folder:
        survives(content[:begin] + filling + content[end:], Path(folder) / "w")


@settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=MAX_BYTES), head=st.sampled_from([b"\x80\x02", b"\x80\x04", b"(dp0\n", b"}q\x00"])
)
def test_noise_behind_the_head_of_a_pickle(body: bytes, head: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        survives(head + body, Path(folder) / "w")
        survives(files.torch_zip(head + body), Path(folder) / "z")


@settings(max_examples=200, deadline=None)
@given(
    opcodes=st.lists(
        st.sampled_from(b"(0129.]}){tdlseauRbchqNGKJMQ\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94\x81"),
        max_size=80,
    )
)
def test_random_programs(opcodes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        survives(b"\x80\x04" + bytes(opcodes) + b".", Path(folder) / "w")


@pytest.mark.parametrize("kind", ["pickle0", "pickle2", "zip"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_attacks_do_not_run(kind: str, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        sentinel = Path(folder) / "ran"
        damaged = bytearray(attack(kind, sentinel))
        position = data.draw(st.integers(0, len(damaged) - 1), label="byte")
        damaged[position] ^= 1 << data.draw(st.integers(0, 7), label="bit")
        survives(bytes(damaged), Path(folder) / "w")
        assert os.listdir(folder) == ["w"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", files.FORMATS)
def test_truncations_are_refused(kind: str, tmp_path: Path) -> None:
    content = whole(kind)
    path = tmp_path / "w"
    for end in range(0, len(content), 3):
        path.write_bytes(content[:end])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", files.FORMATS)
def test_a_flipped_bit_anywhere_is_survived(kind: str, tmp_path: Path) -> None:
    content = whole(kind)
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        survives(bytes(damaged), tmp_path / "w")


@pytest.mark.parametrize("kind", ["zip", "safetensors"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damage_never_changes_what_a_checksum_covers(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(whole(kind))
    damaged[data.draw(st.integers(0, len(damaged) - 1), label="byte")] ^= 1 << data.draw(st.integers(0, 7))
    expected = files.example()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "w"
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path).tensors
        except CheckpointError:
            return
    assert sorted(found) == sorted(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
