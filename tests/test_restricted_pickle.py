"""Plain pickles are read; nothing in a pickle runs, and its size bounds time and memory."""

from __future__ import annotations

import collections
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sor_ppa.restricted_pickle import load_pickle

PLAIN = [
    {"a": [1, 2.5, None, True], "b": ("x", b"\xff\x00", {1, 2})},
    10**30,
    "ä",
    frozenset({3}),
    b"",
    set(),
]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(protocol: int) -> None:
    value = [*PLAIN, collections.OrderedDict(a=1)]
    assert load_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_scalars_of_numpy_1_and_2_come_back(protocol: int, core: str) -> None:
    arrays = {
        "matrix": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">f4"),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 5)),
        "scalar": np.float32(2),
    }
    content = pickle.dumps(arrays, protocol)
    if protocol < 4:  # later ones have the length before the name
        content = content.replace(b"numpy._core.", b"numpy.core.").replace(
            b"numpy.core.", f"{core}.".encode()
        )
    found = load_pickle(content)
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
    assert type(found["scalar"]) is float


def test_text_of_python_2_is_latin_1() -> None:
    assert load_pickle(b"\x80\x02U\x02\xe4x.") == "äx"


@pytest.mark.parametrize("index", [b"\x00\x00\x00\x04", b"\xff\xff\xff\xff"])
def test_a_large_memo_index_takes_no_memory(index: bytes) -> None:
    tracemalloc.start()
    assert load_pickle(b"\x80\x02]r" + index + b".") == []
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


class Command:
    """Runs a command when an ordinary unpickler loads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_refused_and_not_made(tmp_path: Path, protocol: int) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"\.system, expected .* \(nothing was executed\)"):
        load_pickle(pickle.dumps([{"file_name": Command(tmp_path / "ran")}], protocol))
    assert not (tmp_path / "ran").exists()


# sixty tuples, each of twice the one before; its hash would take 2**60 steps
NEST = b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"0"
NUMBERS = b"".join(
    b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") for i in range(9, 50)
)  # of one hash
PROGRAMS = {
    "call": b"cos\nsystem\n(S'true'\ntR.",
    "attribute of an attribute": b"cbuiltins\ngetattr\n(cbuiltins\ndict\nS'get'\ntR.",
    "dotted name": b"c_codecs\nencode.__globals__\n.",
    "default of a function": b"c_codecs\nencode\n(N(S'__defaults__'\n(S'utf8'\ntdtb.",
    "state of a list": b"\x80\x02]}b.",
    "persistent id": b"Pother\n.",
    "instance": b"(ios\nsystem\n.",
    "name of control characters": b"cos\x00\x1b[2J\nsystem\n.",
    "extension": b"\x80\x02\x82\x01.",
    "object with keywords": b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",
    "key of nested tuples": NEST + b"}h\x3cNs.",
    "set of nested tuples": NEST + b"\x8f(h\x3c\x90.",
    "frozenset of nested tuples": NEST + b"(h\x3c\x91.",
    "call of set": NEST + b"cbuiltins\nset\n](h\x3ce\x85R.",
    "call of dict": NEST + b"ccollections\nOrderedDict\n](](h\x3cNee\x85R.",
    "call of Counter": NEST + b"ccollections\nCounter\n](h\x3ce\x85R.",
    "numbers of one hash": b"\x80\x04\x8f(" + NUMBERS + b"\x90.",
    "copies of a string": b"\x80\x02](X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00c_codecs\nencode\nq\x01"
    + b"h\x00\x85R" + b"h\x01h\x00\x85R" * 1000 + b"e.",
    "arrays of one text": b"\x80\x02](cnumpy\ndtype\n(U\x02i1tRq\x00T\x00\x10\x00\x00" + b"a" * 4096
    + b"q\x01" + b"cnumpy\nndarray\n)\x81(K\x01M\x00\x10\x85h\x00\x89h\x01tb" * 100 + b"e.",
    "items of an array": pickle.dumps(np.zeros((1, 9)), 2)[:-1] + b"K\x00K\x01s.",
    "array of objects": pickle.dumps(np.array([{}], object)),
    "array of text": pickle.dumps(np.array(["a"])),
    "array of another size": pickle.dumps(np.zeros(1), 2).replace(b"K\x01\x85", b"J\xff\xff\xff\x7f\x85"),
    "array of negative size": pickle.dumps(np.zeros(4), 2).replace(b"K\x04\x85", b"J\xfe\xff\xff\xff2\x86"),
    "long bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "long bytearray": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
    "long string": b"\x80\x02X\xff\xff\xff\xff",
    "two values": b"\x80\x02}}.",
    "bytes behind the end": b"\x80\x02}.x",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS)
def test_hostile_and_damaged_pickles_are_refused(program: str) -> None:
    with pytest.raises(pickle.UnpicklingError) as caught:
        load_pickle(PROGRAMS[program])
    assert str(caught.value).isprintable()


def test_every_truncation_is_refused() -> None:
    content = pickle.dumps([*PLAIN, np.arange(3)])
    for end in range(len(content)):
        with pytest.raises(pickle.UnpicklingError):
            load_pickle(content[:end])
