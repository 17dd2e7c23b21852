"""Reading whole weight files of every format."""

from __future__ import annotations

import argparse
from collections import Counter, OrderedDict, defaultdict
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


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_every_number_type_is_read(kind: str, tmp_path: Path) -> None:
    names = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
    state = {n: torch.arange(6).to(getattr(torch, n)).reshape(2, 3) for n in names.split()}
    found = read_weights(files.write(kind, tmp_path / "w", state))
    assert_same(found, state)


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_views_transposes_and_ties_keep_their_values(kind: str, tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {"base": base, "part": base[1:3, 2:], "transposed": base.t(), "tied": base}
    assert_same(read_weights(files.write(kind, tmp_path / "w", state)), state)


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


def test_training_state_comes_beside_the_weights(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])
    saved = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "iteration": 9,
    }
    torch.save(saved, tmp_path / "w.pth")
    found = read_checkpoint(tmp_path / "w.pth")
    assert_same(found.tensors, model.state_dict())
    assert found.extras["iteration"] == 9
    assert found.extras["scheduler"]["milestones"] == Counter({2: 1, 4: 1})
    fresh = torch.optim.AdamW(torch.nn.Linear(2, 3).parameters())
    fresh.load_state_dict(found.extras["optimizer"])
    assert torch.equal(
        fresh.state_dict()["state"][0]["exp_avg"], optimizer.state_dict()["state"][0]["exp_avg"]
    )


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
    ],
)
def test_state_dict_is_found(wrap, tmp_path: Path) -> None:
    torch.save(wrap(files.example()), tmp_path / "w")
    assert_same(read_weights(tmp_path / "w"), files.example())


def test_ddp_prefix_stays_where_not_all_names_have_it(tmp_path: Path) -> None:
    state = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    torch.save(state, tmp_path / "w")
    assert sorted(read_weights(tmp_path / "w")) == ["b", "module.a"]


def test_parameters_and_numbers_become_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"a": torch.nn.Parameter(torch.ones(2)), "steps": 3}}, tmp_path / "w")
    found = read_weights(tmp_path / "w")
    assert found["a"].tolist() == [1, 1]
    assert found["steps"].item() == 3


def test_non_finite_weights_are_read_on_request(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([float("nan"), 1.0])}, tmp_path / "w")
    assert read_weights(tmp_path / "w", allow_non_finite=True)["a"].isnan().tolist() == [True, False]


def test_safetensors_of_the_library_are_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(files.example(), tmp_path / "w", metadata={"format": "pt"})
    assert_same(read_weights(tmp_path / "w"), files.example())


def test_loaded_tensors_do_not_depend_on_the_file(tmp_path: Path) -> None:
    for kind in files.FORMATS:
        path = files.write(kind, tmp_path / kind)
        found = read_weights(path)
        path.write_bytes(b"\xff" * path.stat().st_size)
        assert_same(found, files.example())


def test_averaged_models_are_read(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 3)
    torch.save(torch.optim.swa_utils.AveragedModel(model).state_dict(), tmp_path / "w")
    assert_same(read_weights(tmp_path / "w"), model.state_dict())


@pytest.mark.parametrize("legacy", [False, True])
def test_objects_of_training_programs_beside_the_weights_become_plain_values(
    legacy: bool, tmp_path: Path
) -> None:
    saved = {
        "cfg": CfgNode({"MODEL": CfgNode({"NAME": "x"})}),
        "args": argparse.Namespace(lr=0.1, out=PosixPath("/a/b")),
        "losses": defaultdict(list, total=[1.0]),
        "version": torch.torch_version.TorchVersion("2.10"),
        "best": np.float64(0.5),
        "epochs": np.int64(3),
        "history": np.arange(3),
        "done": frozenset({1}),
        "size": torch.Size([1, 2]),
    }
    plain = {
        "cfg": {"MODEL": {"NAME": "x"}},
        "args": {"lr": 0.1, "out": "/a/b"},
        "losses": {"total": [1.0]},
        **{"version": "2.10", "best": 0.5, "epochs": 3, "done": {1}, "size": (1, 2)},
    }
    torch.save({"model": files.example(), **saved}, tmp_path / "w", _use_new_zipfile_serialization=not legacy)
    found = read_checkpoint(tmp_path / "w").extras
    assert found.pop("history").tolist() == [0, 1, 2]
    assert found == plain


def test_arrays_in_torch_files_become_tensors(tmp_path: Path) -> None:
    torch.save({"model": {"w": np.arange(3.0), "big": np.arange(2, dtype=">f4")}}, tmp_path / "w")
    found = read_weights(tmp_path / "w")
    assert found["w"].tolist() == [0, 1, 2]
    assert found["big"].tolist() == [0, 1]
