"""Files that want to run code or to fill the memory: each refused with one line, and nothing runs."""

from __future__ import annotations

import builtins
import functools
import importlib
import marshal
import operator
import os
import pickle
import runpy
import struct
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sor_ppa.checkpoint import read_checkpoint

from . import files
from .files import refusal

HUGE = 2**50


# -- files that want to run code

ATTACKS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "os.system": lambda s: (os.system, f"touch {s}"),
    "subprocess": lambda s: (subprocess.check_call, ["touch", s]),
    "eval": lambda s: (builtins.eval, f"open({s!r}, 'w')"),
    "exec": lambda s: (builtins.exec, f"open({s!r}, 'w')"),
    "open": lambda s: (builtins.open, s, "w"),
    "getattr": lambda s: (builtins.getattr, os, "system"),
    "import": lambda s: (importlib.import_module, "antigravity"),
    "runpy": lambda s: (runpy.run_path, s),
    "partial": lambda s: (functools.partial, os.system, f"touch {s}"),
    "methodcaller": lambda s: (operator.methodcaller, "system", f"touch {s}"),
    "attrgetter": lambda s: (operator.attrgetter, "system"),
    "marshal": lambda s: (marshal.loads, marshal.dumps(compile(f"open({s!r}, 'w')", "x", "exec"))),
    "map": lambda s: (builtins.map, os.system, [f"touch {s}"]),
    "torch.load": lambda s: (torch.load, s),
    "numpy.load": lambda s: (np.load, s),
    "pickle.loads": lambda s: (pickle.loads, files.raw_pickle(os.system, f"touch {s}")),
    "torch.hub": lambda s: (torch.hub.load, s),
    "code object": lambda s: (types.SimpleNamespace,),
    "open by numpy": lambda s: (np.memmap, s, "u1", "w+", 0, (1,)),
    "remove": lambda s: (os.unlink, s),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("wrapping", ["pickle0", "pickle2", "pickle4", "zip", "legacy"])
def test_calls_are_refused_and_not_made(attack: str, wrapping: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    if attack == "remove":
        (tmp_path / "kept").touch()
    target = str(tmp_path / "kept") if attack == "remove" else str(sentinel)
    function, *arguments = ATTACKS[attack](target)
    if arguments and isinstance(arguments[0], types.ModuleType):
        arguments[0] = "os"
    protocol = int(wrapping[-1]) if wrapping.startswith("pickle") else 2
    data = files.raw_pickle(function, *arguments, protocol=protocol)
    if wrapping == "zip":
        data = files.torch_zip(data)
    elif wrapping == "legacy":
        head = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
        data = b"".join(head) + data
    path = tmp_path / "w.pth"
    path.write_bytes(data)
    message = refusal(path)
    assert "nothing was executed" in message
    assert not sentinel.exists()
    if attack == "remove":
        assert (tmp_path / "kept").exists()


def test_the_name_of_what_was_refused_is_told(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(files.raw_pickle(os.system, "true"))
    assert f"found '{os.system.__module__}.system' in a pickle" in refusal(tmp_path / "w")


HAND_WRITTEN = {
    "reduce chain": b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\nX\x02\x00\x00\x00os\x85R\x86R.",
    "call of a result": b"\x80\x02}X\x01\x00\x00\x00accollections\nOrderedDict\n)RX\x01\x00\x00\x00x\x85Rs.",
    "call of a constant": b"\x80\x02cbuiltins\nlist\n)R.",
    "call of a type of torch": b"\x80\x02ctorch\nfloat32\n)R.",
    "dotted name": b"\x80\x04\x8c\x05torch\x8c\x10_utils.os.system\x93\x8c\x04true\x85R.",
    "module as name": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
    "old-style instance": b"(S'true'\nios\nsystem\n.",
    "old-style object": b"\x80\x02(cos\nsystem\nX\x04\x00\x00\x00trueo.",
    "extension registry": b"\x80\x02\x82\x01)R.",
    "new object with keywords": b"\x80\x04\x8c\x02os\x8c\x06system\x93)}\x92.",
    "state of a dict with methods": b"\x80\x02cos\nsystem\n}b.",
    "state of a list": b"\x80\x02]}b.",
    "dill": b"\x80\x04\x8c\ndill._dill\x8c\x10_create_function\x93)R.",
    "cloudpickle": b"\x80\x04\x8c\x17cloudpickle.cloudpickle\x8c\r_builtin_type\x93\x8c\x08CodeType\x85R.",
    "joblib": b"\x80\x04\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93)\x81.",
    "whole module": b"\x80\x02ctorch.nn.modules.linear\nLinear\n)\x81}b.",
    "protocol 0": b"cos\nsystem\n(S'true'\ntR.",
    "persistent id": b"\x80\x02X\x01\x00\x00\x00aQ.",
    "text persistent id": b"\x80\x02Pabc\n.",
    "out-of-band buffer": b"\x80\x05\x97.",
    "unhashable key": b"\x80\x02}]X\x01\x00\x00\x00as.",
    "tuple as key": b"\x80\x02})X\x01\x00\x00\x00as.",
}


@pytest.mark.parametrize("trick", HAND_WRITTEN)
def test_tricks_of_hand_written_pickles_are_refused(trick: str, tmp_path: Path) -> None:
    for name, data in (("w.pkl", HAND_WRITTEN[trick]), ("w.pth", files.torch_zip(HAND_WRITTEN[trick]))):
        (tmp_path / name).write_bytes(data)
        refusal(tmp_path / name)


def test_no_module_is_imported_for_a_name(tmp_path: Path) -> None:
    assert "antigravity" not in sys.modules
    (tmp_path / "w").write_bytes(b"\x80\x02cantigravity\nfly\n)R.")
    refusal(tmp_path / "w")
    assert "antigravity" not in sys.modules


def test_pickles_beside_the_structure_of_a_zip_are_not_read(tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    nested = files.raw_pickle(os.system, f"touch {sentinel}")
    data = np.zeros(4, "<f4").tobytes()
    members = {"data/0": data, "extra.pkl": nested, ".data/x": nested}
    (tmp_path / "w").write_bytes(files.torch_zip(files.tensor_pickle(), members))
    assert read_checkpoint(tmp_path / "w").tensors["weight"].tolist() == [0, 0, 0, 0]
    assert not sentinel.exists()


def test_pickle_inside_a_string_stays_a_string(tmp_path: Path) -> None:
    sentinel = tmp_path / "ran"
    saved = {"model": {"a": torch.zeros(1)}, "note": files.raw_pickle(os.system, f"touch {sentinel}")}
    torch.save(saved, tmp_path / "w")
    assert isinstance(read_checkpoint(tmp_path / "w").extras["note"], bytes)
    assert not sentinel.exists()


def test_control_characters_of_a_file_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"\x80\x04\x8c\x0c\x1b[31mevil\x07\r\n\x8c\x01x\x93.")
    refusal(tmp_path / "w")


def test_saved_models_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "zip")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "legacy", _use_new_zipfile_serialization=False)
    assert "torch.nn.modules.linear.Linear" in refusal(tmp_path / "zip")
    assert "expected" in refusal(tmp_path / "legacy")


def test_torchscript_is_refused(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    assert "TorchScript archive, which is a program" in refusal(tmp_path / "w.pt")


# -- bombs: small files that claim much

BOMBS = {
    "long string": b"\x80\x02X\xff\xff\xff\xff",
    "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", HUGE),
    "long bytearray": b"\x80\x05\x96" + struct.pack("<Q", HUGE),
    "long integer": b"\x80\x02\x8b\xff\xff\xff\x7f",
    "negative integer length": b"\x80\x02\x8b\xff\xff\xff\xff",
    "negative string length": b"\x80\x02T\xff\xff\xff\xff",
    "long frame": b"\x80\x04\x95" + struct.pack("<Q", HUGE) + b"}.",
    "digits": b"(dp0\nL" + b"9" * 5000 + b"L\n.",
    "huge shape": pickle.dumps({"a": np.zeros(1)}, 2).replace(b"K\x01\x85", b"J\xff\xff\xff\x7f\x85"),
    "copies of one string": b"\x80\x02]("
    + b"X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00c_codecs\nencode\nq\x01h\x00\x85R"
    + b"h\x01h\x00\x85R" * 1000 + b"e.",
    "copies of one list": b"\x80\x02](" + b"](" + b"K\x00" * 4000 + b"eq\x00"
    + b"ctorch\nSize\nq\x01h\x00\x85R"
    + b"h\x01h\x00\x85R" * 2000 + b"e.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_pickles_that_claim_more_than_they_hold_are_refused(bomb: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(BOMBS[bomb])
    refusal(tmp_path / "w")


def test_memo_of_a_huge_index_takes_no_memory(tmp_path: Path) -> None:
    data = pickle.dumps({"a": np.ones(2)}, 2)
    assert data[2:5] == b"}q\x00"
    (tmp_path / "w").write_bytes(data[:3] + b"r\xff\xff\xff\xff" + data[5:])
    assert read_checkpoint(tmp_path / "w").tensors["a"].tolist() == [1, 1]


def test_nest_of_shared_lists_is_refused_at_once(tmp_path: Path) -> None:
    data = b"\x80\x02](" + b"]q\x00" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60)) + b"e."
    (tmp_path / "w").write_bytes(data)
    assert "expected a state dict" in refusal(tmp_path / "w")


def test_deep_nest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".")
    refusal(tmp_path / "w")


ZIP_TENSORS = {
    "huge storage": {"count": HUGE, "size": (HUGE,)},
    "huge shape": {"size": (HUGE,)},
    "huge shape of stride 0": {"size": (HUGE,), "stride": (0,)},
    "overflowing shape": {"size": (2**62, 2**62, 16), "stride": (1, 1, 1)},
    "negative shape": {"size": (-4,)},
    "negative stride": {"stride": (-1,)},
    "negative offset": {"offset": -1},
    "offset behind the end": {"offset": 1},
    "stride behind the end": {"size": (2,), "stride": (4,)},
    "strides of other rank": {"stride": (1, 1)},
    "text as shape": {"size": "4"},
    "bool as shape": {"size": (True,)},
    "too many dimensions": {"size": (1,) * 100, "stride": (1,) * 100},
    "negative storage": {"count": -4},
    "text as storage size": {"count": "4"},
    "storage of another size": {"count": 3, "size": (3,)},
    "missing storage": {"key": "7"},
    "storage outside the folder": {"key": "../data.pkl"},
    "empty tensor of a huge shape": {"size": (0, 2**62), "stride": (1, 1)},
}


@pytest.mark.parametrize("case", ZIP_TENSORS)
def test_impossible_tensors_are_refused(case: str, tmp_path: Path) -> None:
    structure = files.tensor_pickle(**ZIP_TENSORS[case])
    (tmp_path / "w").write_bytes(files.torch_zip(structure, {"data/0": bytes(16)}))
    refusal(tmp_path / "w")


def test_many_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    base = torch.zeros(1000)
    torch.save({f"w{i}": base[:] for i in range(200)}, tmp_path / "w")
    assert "more than this file can hold" in refusal(tmp_path / "w")


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", files.tensor_pickle(count=2**20, size=(2**20,)))
        archive.writestr("archive/data/0", bytes(2**22))
    assert "is compressed" in refusal(tmp_path / "w")


@pytest.mark.parametrize("field", ["file_size", "compress_size", "both"])
def test_zip_bomb_by_header_is_refused(field: str, tmp_path: Path) -> None:
    data = files.torch_zip(files.tensor_pickle(count=2**20, size=(2**20,)), {"data/0": bytes(16)})
    entry = data.rindex(b"PK\x01\x02")
    huge = struct.pack("<I", 2**22)
    sizes = {
        "file_size": bytes(data[entry + 20 : entry + 24]) + huge,
        "compress_size": huge + bytes(data[entry + 24 : entry + 28]),
    }
    changed = data[: entry + 20] + sizes.get(field, huge + huge) + data[entry + 28 :]
    (tmp_path / "w").write_bytes(changed)
    refusal(tmp_path / "w")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("archive/data.pkl", files.tensor_pickle())
        archive.writestr("archive/data/0", bytes(16))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("archive/data/0", bytes(16))
    assert "two members" in refusal(tmp_path / "w")


def test_two_structures_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w", "w") as archive:
        archive.writestr("a/data.pkl", files.tensor_pickle())
        archive.writestr("b/data.pkl", files.tensor_pickle())
    assert "2 data.pkl, expected one" in refusal(tmp_path / "w")


OBJECTS = {
    "lists": b"]" * 1000,
    "sets": b"\x8f" * 1000,
    "marks": b"(" * 1000,
    "memo": b"N" + b"\x94" * 1000,
    "calls": b"ccollections\nOrderedDict\nq\x00" + b"h\x00)R" * 1000,
    "numbers": b"](" + b"K\x01" * 10_000 + b"e",
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_more_objects_than_a_file_can_hold_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_machine, "_OBJECTS", 2**14)
    (tmp_path / "w").write_bytes(b"\x80\x02" + OBJECTS[kind] + b".")
    assert "too many objects for a file of" in refusal(tmp_path / "w")


def test_more_operations_than_a_file_needs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pickle_machine, "_MAX_OPCODES", 100)
    (tmp_path / "w").write_bytes(b"\x80\x02" + b"N0" * 60 + b"N.")
    assert "more than 100 operations" in refusal(tmp_path / "w")


KEYED = {
    "dict": (b"}(", b"N", b"u"),
    "set": (b"\x8f(", b"", b"\x90"),
    "frozenset": (b"(", b"", b"\x91"),
    "call of set": (b"cbuiltins\nset\n](", b"", b"e\x85R"),
    "call of OrderedDict": (b"ccollections\nOrderedDict\n](", b"N\x86", b"e\x85R"),
}


@pytest.mark.parametrize("kind", KEYED)
def test_keys_of_one_hash_are_refused(kind: str, tmp_path: Path) -> None:
    begin, value, end = KEYED[kind]
    # Python hashes an integer to its rest by 2**61 - 1: a dict of such keys takes quadratic time.
    keys = [b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + value for i in range(1, 50)]
    (tmp_path / "w").write_bytes(b"\x80\x04" + begin + b"".join(keys) + end + b".")
    assert "as key in a pickle" in refusal(tmp_path / "w")


def test_paths_made_of_one_long_text_are_refused(tmp_path: Path) -> None:
    text = b"X\x00\x10\x00\x00" + b"a" * 4096 + b"q\x00"
    joined = b"cpathlib\nPosixPath\nq\x01h\x00h\x00\x86R" + b"h\x01h\x00h\x00\x86R" * 1000
    (tmp_path / "w").write_bytes(b"\x80\x02](" + text + joined + b"e.")
    assert "more than this file can hold" in refusal(tmp_path / "w")
