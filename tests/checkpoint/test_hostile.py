"""Malicious, damaged and foreign files: each refused with one line, and nothing in them runs."""

from __future__ import annotations

import builtins
import functools
import importlib
import json
import marshal
import operator
import os
import pickle
import runpy
import struct
import subprocess
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sor_ppa.checkpoint import CheckpointError, read_checkpoint

from . import files

HUGE = 2**50


def refusal(path: Path) -> str:
    """The message with which a file is refused: one line that begins with the file."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    return message.removeprefix(f"{path}: ")


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


# -- damage


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
