"""Loading into models, saving, resuming."""

from __future__ import annotations

import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.utils import comm
from torch import nn

from sor_ppa.checkpoint import (
    CheckpointError,
    CheckpointInfo,
    SORCheckpointer,
    read_checkpoint,
    read_checkpoint_info,
)

from . import files


def net(classes: int = 1) -> nn.Module:
    """A model with a class layer and a ranking head, named as in a detector."""
    torch.manual_seed(0)
    root = nn.Module()
    root.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    root.roi_heads = nn.Module()
    root.roi_heads.mask_head = nn.Module()
    root.roi_heads.mask_head.predictor = nn.Conv2d(4, classes, 1)
    root.roi_heads.sor_head = nn.Linear(4, 5)
    return root


def changed(model: nn.Module) -> nn.Module:
    """The same model with other numbers in it."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


class Part:
    """A checkpointable with any state."""

    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> Any:
        return self.state

    def load_state_dict(self, state: Any) -> None:
        self.state = state


def test_a_refused_file_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    state = changed(net()).state_dict()
    state["roi_heads.sor_head.weight"] = torch.zeros(7, 4)
    torch.save(state, tmp_path / "w.pth")
    model = net()
    with pytest.raises(CheckpointError, match=r"w\.pth: parameter 'roi_heads.sor_head.weight': shape \(7"):
        SORCheckpointer(model).load(str(tmp_path / "w.pth"))
    assert equal(model, net())


def test_incomplete_file_is_refused_where_all_is_needed(tmp_path: Path) -> None:
    state = {n: t for n, t in net().state_dict().items() if "sor_head" not in n}
    torch.save(state, tmp_path / "w.pth")
    SORCheckpointer(net()).load(str(tmp_path / "w.pth"))
    with pytest.raises(CheckpointError, match=r"lacks 2 parameters .*'roi_heads.sor_head.weight'"):
        SORCheckpointer(net()).load(str(tmp_path / "w.pth"), complete=True)


def test_address_that_cannot_be_fetched_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = SORCheckpointer(net())

    def offline(path: str) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(checkpointer.path_manager, "get_local_path", offline)
    with pytest.raises(CheckpointError, match=r"https://host/w\.pth\?dl=1: cannot be fetched \(OSError: no"):
        checkpointer.load("https://host/w.pth?dl=1")


def test_query_of_detectron2_asks_for_suffixes(tmp_path: Path) -> None:
    source = changed(net())
    torch.save({n.removeprefix("roi_heads."): t for n, t in source.state_dict().items()}, tmp_path / "w.pth")
    model = net()
    SORCheckpointer(model).load(f"{tmp_path}/w.pth?matching_heuristics=True", complete=True)
    assert equal(model, source)


def test_every_process_raises_what_one_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(net().state_dict(), tmp_path / "w.pth")
    monkeypatch.setattr(comm, "all_gather", lambda mine: [mine, "w.pth: is empty"])
    model = changed(net())
    with pytest.raises(CheckpointError, match=r"^w\.pth: is empty$"):
        SORCheckpointer(model).load(str(tmp_path / "w.pth"))
    assert equal(model, changed(net()))


def test_detectron2_hook_reads_safely(tmp_path: Path) -> None:
    (tmp_path / "w.pkl").write_bytes(files.raw_pickle(print, "x"))
    with pytest.raises(CheckpointError, match=r"builtins?__?\.print"):
        SORCheckpointer(net())._load_file(str(tmp_path / "w.pkl"))


def test_a_last_checkpoint_that_cannot_be_read_is_no_new_start(tmp_path: Path) -> None:
    (tmp_path / "last_checkpoint").mkdir()
    with pytest.raises(CheckpointError, match="last_checkpoint: cannot be read"):
        SORCheckpointer(net(), str(tmp_path)).resume_or_load("", resume=True)


def test_training_resumes_where_it_stopped(tmp_path: Path) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 5])
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    scheduler.step()
    SORCheckpointer(model, str(tmp_path), optimizer=optimizer, scheduler=scheduler).save(
        "model_1", iteration=1
    )

    fresh = net()
    other = torch.optim.SGD(fresh.parameters(), lr=0.1, momentum=0.9)
    steps = torch.optim.lr_scheduler.MultiStepLR(other, [1, 5])
    resumed = SORCheckpointer(fresh, str(tmp_path), optimizer=other, scheduler=steps)
    assert resumed.resume_or_load("", resume=True) == {"iteration": 1}
    assert equal(fresh, model)
    assert steps.state_dict() == scheduler.state_dict()
    for old, new in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert torch.equal(old["momentum_buffer"], new["momentum_buffer"])


def test_resume_without_a_checkpoint_loads_the_weights_alone(tmp_path: Path) -> None:
    SORCheckpointer(changed(net()), str(tmp_path), part=Part({"a": 1})).save("w")
    model, part = net(), Part({"a": 0})
    checkpointer = SORCheckpointer(model, str(tmp_path / "new"), part=part)
    assert checkpointer.resume_or_load(str(tmp_path / "w.pth"), resume=True) == {"part": {"a": 1}}
    assert equal(model, changed(net()))
    assert part.state == {"a": 0}


def test_saved_files_hold_plain_values_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = {
        "best": np.float32(0.5),
        "history": np.arange(3),
        "device": torch.device("cpu"),
        "order": OrderedDict(a=(1, [2.0, None, True, "x", b"y"])),
        "size": torch.Size([1, 2]),
        "seen": {1, 2},
        "log": logging.Logger("x"),
    }
    SORCheckpointer(net(), str(tmp_path), part=Part(state)).save("model", iteration=3)
    found = read_checkpoint(tmp_path / "model.pth").extras
    assert found["part"].pop("history").tolist() == [0, 1, 2]
    assert found["part"] == {
        "best": 0.5,
        "device": torch.device("cpu"),
        "order": {"a": (1, [2.0, None, True, "x", b"y"])},
        "size": (1, 2),
        "seen": {1, 2},
    }
    assert "part.log is a Logger and is not saved" in caplog.text
    assert set(torch.load(tmp_path / "model.pth", weights_only=False)) == {"model", "part", "iteration"}


def test_checkpoints_carry_what_they_were_trained_with(tmp_path: Path) -> None:
    info = CheckpointInfo("MODEL: {}\n", ("person",))
    SORCheckpointer(net(), str(tmp_path), info=info, save_safetensors=True).save("model")
    assert read_checkpoint_info(tmp_path / "model.pth") == info
    assert read_checkpoint_info(tmp_path / "model.safetensors") == info
    checkpointer = SORCheckpointer(net(), str(tmp_path))
    assert checkpointer.resume_or_load("", resume=True) == {}
    assert checkpointer.loaded_info == info


def test_a_failed_save_keeps_the_former_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpointer = SORCheckpointer(net(), str(tmp_path))
    checkpointer.save("model")

    def failing(data: Any, file: Any) -> None:
        raise RuntimeError("PytorchStreamWriter failed")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", failing)
        with pytest.raises(CheckpointError, match=r"model\.pth: cannot be written .*StreamWriter"):
            checkpointer.save("model")
    names = ["last_checkpoint", "model.pth", "model.pth.sha256"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert checkpointer.resume_or_load("", resume=True) == {}


TAGS = {
    "missing": (b"model_7.pth", "'model_7.pth', which is not there"),
    "empty": (b"", "nothing"),
    "damaged": (b"\xff\xfe\0", "which is not there"),
    "folder": (b".", "which is not there"),
}


@pytest.mark.parametrize("tag", TAGS)
def test_a_last_checkpoint_that_names_nothing_is_one_error(tag: str, tmp_path: Path) -> None:
    content, found = TAGS[tag]
    checkpointer = SORCheckpointer(net(), str(tmp_path))
    checkpointer.save("model_1")
    checkpointer.save("model_2")
    (tmp_path / "last_checkpoint").write_bytes(content)
    message = rf"^{tmp_path}/last_checkpoint: names .*{found}, expected one of model_1\.pth, model_2\.pth$"
    with pytest.raises(CheckpointError, match=message):
        checkpointer.resume_or_load("", resume=True)


def test_weights_alone_and_those_of_another_model_are_not_resumed(tmp_path: Path) -> None:
    model = net()
    SORCheckpointer(model, str(tmp_path)).save("model")
    with pytest.raises(CheckpointError, match=r"model\.pth: holds no 'part', expected a training state"):
        SORCheckpointer(net(), str(tmp_path), part=Part({})).resume_or_load("", resume=True)
    del model.roi_heads.sor_head
    SORCheckpointer(model, str(tmp_path)).save("model")
    with pytest.raises(CheckpointError, match=r"model\.pth: lacks 2 parameters"):
        SORCheckpointer(net(), str(tmp_path)).resume_or_load("", resume=True)


@pytest.mark.parametrize("state", [None, {"state": {}, "param_groups": []}, {"state": 3}, [1]])
def test_the_state_of_another_training_is_one_error(state: Any, tmp_path: Path) -> None:
    model = net()
    SORCheckpointer(model, str(tmp_path), optimizer=Part(state)).save("model")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(CheckpointError, match=r"model\.pth: its optimizer cannot be resumed \("):
        SORCheckpointer(model, str(tmp_path), optimizer=optimizer).resume_or_load("", resume=True)


def test_another_networks_weights_are_told_and_not_evaluated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deeper, model = (
        nn.Sequential(nn.Sequential(*[nn.Linear(2, 2) for _ in range(n)]), nn.Linear(2, 2)) for n in (4, 3)
    )
    torch.save(deeper.state_dict(), tmp_path / "w.pth")
    SORCheckpointer(model).load(str(tmp_path / "w.pth"))
    message = "w.pth: of a network with more layers: 2 parameters between loaded ones, such as '0.3.weight'"
    assert message in caplog.text
    with pytest.raises(CheckpointError, match=r"w\.pth: of a network with more layers"):
        SORCheckpointer(model).load(str(tmp_path / "w.pth"), complete=True)
