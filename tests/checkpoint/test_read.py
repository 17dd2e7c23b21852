"""Reading whole weight files of every format."""

from __future__ import annotations

import argparse
from collections import OrderedDict, defaultdict
from pathlib import Path, PosixPath

import numpy as np
import pytest
import torch
from yacs.config import CfgNode

from sor_ppa.checkpoint import read_checkpoint, read_weights

from . import files


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert sorted(found) == sorted(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize("kind", files.WRITERS)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_content_tells_the_format(kind: str, suffix: str, tmp_path: Path) -> None:
    found = read_checkpoint(files.write(kind, tmp_path / f"w{suffix}"))
    assert_same(found.tensors, files.example())
    assert found.format == {"zip": "torch", "legacy": "torch", "safetensors": kind}.get(kind, "pickle")


def test_python_2_pickle_is_read(tmp_path: Path) -> None:
    # As Python 2's cPickle writes {"conv1_w": np.float32([1, 2])} with protocol 2: strings are bytes.
    state = (
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
    )
    data = (
        b"\x80\x02}U\x07conv1_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + state
        + np.array([1, 2], "<f4").tobytes()
        + b"tbs."
    )
    (tmp_path / "w.pkl").write_bytes(data)
    assert read_weights(tmp_path / "w.pkl")["conv1_w"].tolist() == [1, 2]


def test_older_torch_files_with_storage_views_are_read(tmp_path: Path) -> None:
    # Before torch 0.4 a storage could be part of another: (root key, offset, size) ends its reference.
    state = {"w": torch.arange(8.0)}
    path = files.write("legacy", tmp_path / "w", state)
    data = path.read_bytes()
    whole = b"K\x08Ntq"
    assert whole in data
    path.write_bytes(
        data.replace(whole, b"K\x08X\x01\x00\x00\x00vK\x02K\x06\x87tq").replace(b"K\x08\x85q", b"K\x06\x85q")
    )
    assert read_weights(path)["w"].tolist() == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"teacher": s, "student": {}},
        lambda s: {"blobs": s, "cfg": "text"},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {f"module.{n}": t for n, t in s.items()},
        lambda s: {"model": {f"module._orig_mod.{n}": t for n, t in s.items()}},
        lambda s: OrderedDict(s),
        lambda s: {"n_averaged": torch.tensor(1), **{f"module.{n}": t for n, t in s.items()}},
    ],
)
def test_state_dict_is_found(wrap, tmp_path: Path) -> None:
    torch.save(wrap(files.example()), tmp_path / "w")
    assert_same(read_weights(tmp_path / "w"), files.example())


def test_a_prefix_that_not_all_names_have_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "w")
    assert sorted(read_weights(tmp_path / "w")) == ["b", "module.a"]


def test_parameters_arrays_and_numbers_become_tensors(tmp_path: Path) -> None:
    state = {"a": torch.nn.Parameter(torch.ones(2)), "b": np.arange(2, dtype=">f4"), "steps": 3}
    torch.save({"model": state}, tmp_path / "w")
    found = read_weights(tmp_path / "w")
    assert {name: value.tolist() for name, value in found.items()} == {"a": [1, 1], "b": [0, 1], "steps": 3}


def test_loaded_tensors_do_not_depend_on_the_file(tmp_path: Path) -> None:
    for kind in files.FORMATS:
        path = files.write(kind, tmp_path / kind)
        found = read_weights(path)
        path.write_bytes(b"\xff" * path.stat().st_size)
        assert_same(found, files.example())


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_of_training_programs_beside_the_weights_become_plain_values(
    legacy: bool, tmp_path: Path
) -> None:
    saved = {
        "cfg": CfgNode({"MODEL": CfgNode({"NAME": "x"})}),
        "args": argparse.Namespace(lr=0.1, out=PosixPath("/a/b")),
        "losses": defaultdict(list, total=[1.0]),
        "version": torch.torch_version.TorchVersion("2.10"),
        "numbers": [np.float64(0.5), np.int64(3), frozenset({1}), torch.Size([1, 2])],
        "history": np.arange(3),
    }
    plain = {
        "cfg": {"MODEL": {"NAME": "x"}},
        "args": {"lr": 0.1, "out": "/a/b"},
        "losses": {"total": [1.0]},
        "version": "2.10",
        "numbers": [0.5, 3, {1}, (1, 2)],
    }
    torch.save({"model": files.example(), **saved}, tmp_path / "w", _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(tmp_path / "w").extras
    assert found.pop("history").tolist() == [0, 1, 2]
    assert found == plain
