from __future__ import annotations

import collections
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sor_ppa.data import DatasetError
from sor_ppa.data.plain_pickle import read_plain_pickle


def load(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "a.pkl"
    path.write_bytes(content)
    return read_plain_pickle(path)


PLAIN = [{"a": [1, 2.5, None, True], "b": ("x", b"\xff\x00", {1, 2})}, 10**30, "ä", frozenset({3})]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(tmp_path: Path, protocol: int) -> None:
    assert load(tmp_path, pickle.dumps(PLAIN, protocol)) == PLAIN


def test_ordered_dicts_become_dicts(tmp_path: Path) -> None:
    assert load(tmp_path, pickle.dumps(collections.OrderedDict(a=1))) == {"a": 1}


class Command:
    """Runs a command when unpickled by the ordinary loader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_hostile_pickles_are_refused_and_run_nothing(tmp_path: Path, protocol: int) -> None:
    trace = tmp_path / "ran"
    with pytest.raises(DatasetError, match=r"a\.pkl: refused .* not plain data"):
        load(tmp_path, pickle.dumps([{"file_name": Command(trace)}], protocol))
    assert not trace.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(cbuiltins\ndict\nS'get'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"c_codecs\nencode.__globals__\n.",
        b"ccollections\nOrderedDict.__class__\n.",
        b"Pother\n.",
        b"(ios\nsystem\n.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_hand_made_programs_are_refused(tmp_path: Path, program: bytes) -> None:
    with pytest.raises(DatasetError, match="refused or broken"):
        load(tmp_path, program)


@pytest.mark.parametrize("value", [np.float32(1), np.zeros(2), Path("x"), pytest.approx(1), range(3)])
def test_objects_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(DatasetError, match="not plain data"):
        load(tmp_path, pickle.dumps(value))


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_truncated_files_are_one_line(tmp_path: Path, cut: int) -> None:
    content = pickle.dumps(PLAIN)
    with pytest.raises(DatasetError) as caught:
        load(tmp_path, content[: min(cut, len(content) - 1)])
    assert "\n" not in str(caught.value)


def test_claims_beyond_memory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        load(tmp_path, b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.")


def test_numpy_values_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"numpy.*not plain data; write numpy values with \.item\(\)"):
        load(tmp_path, pickle.dumps([{"rank": [np.int64(1)]}]))


def test_a_pickle_cannot_alter_what_it_is_given(tmp_path: Path) -> None:
    change = b"c_codecs\nencode\n(N(S'__defaults__'\n(S'utf8'\ntdtb."
    with pytest.raises(DatasetError, match="refused or broken"):
        load(tmp_path, change)
