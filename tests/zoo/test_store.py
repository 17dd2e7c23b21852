"""From a published checkpoint on a server to a model that the predictor loads by its name."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sor_ppa.building import build_checked_model
from sor_ppa.checkpoint import read_checkpoint_info
from sor_ppa.config import check_config
from sor_ppa.predictor import SORPredictor
from sor_ppa.zoo import Entry, ZooError, catalog, get_model, resolve, store
from tests.ranked import noise
from tests.zoo.server import Server, serving

TINY = "sor/exp/centermask-lite-v19-slim-dw.yaml"


@pytest.fixture(scope="module")
def entry() -> Entry:
    return replace(catalog()["ppa-v39"], name="tiny", config=TINY, options=("MODEL.DEVICE", "cpu"))


@pytest.fixture(scope="module")
def checkpoint(entry: Entry) -> bytes:
    """A checkpoint under published names, as torch.save writes it."""
    model = build_checked_model(store.model_config(entry))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "iteration": 1}, file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Entry) -> Path:
    monkeypatch.setenv("SOR_PPA_CACHE", str(tmp_path))
    monkeypatch.setattr(store, "catalog", lambda: {"tiny": entry, "ppa-v39": catalog()["ppa-v39"]})
    return tmp_path


def test_fetched_model_needs_nothing_but_its_name(checkpoint: bytes, entry: Entry, monkeypatch, cache: Path):
    with serving(Server(checkpoint, cut_after=len(checkpoint) // 2, cuts=1)) as server:
        monkeypatch.setattr(store, "catalog", lambda: {"tiny": replace(entry, url=server.url)})
        path = get_model("tiny")
        count = len(server.requests)
        assert get_model("tiny") == path  # the second call downloads nothing
        assert len(server.requests) == count
    assert sorted(p.name for p in (cache / "models").iterdir() if p.suffix != ".sha256") == [path.name]
    info = read_checkpoint_info(path)
    assert info is not None
    assert info.class_names == ("salient",)
    result = SORPredictor.from_pretrained("tiny")(noise(64, 96))
    assert result.masks.shape[1:] == (64, 96)


def test_file_that_changed_since_the_first_download_is_refused(checkpoint: bytes, tmp_path: Path):
    file = tmp_path / "by_hand.pth"
    file.write_bytes(checkpoint)
    get_model("tiny", file=file)
    other = torch.load(file, weights_only=True)
    other["iteration"] = 2
    torch.save(other, file)
    with pytest.raises(ZooError, match="expected sha256:"):
        get_model("tiny", file=file)
    get_model("tiny", file=file, force=True)


def test_published_hash_is_checked(checkpoint: bytes, tmp_path: Path, entry: Entry, monkeypatch):
    (tmp_path / "f.pth").write_bytes(checkpoint)
    monkeypatch.setattr(store, "catalog", lambda: {"tiny": replace(entry, hash="md5:" + "0" * 32)})
    with pytest.raises(ZooError, match="expected md5:0"):
        get_model("tiny", file=tmp_path / "f.pth")


def test_what_is_no_checkpoint_is_one_line_and_leaves_no_model(entry: Entry, monkeypatch, cache: Path):
    with serving(Server(b"no weights" * 100)) as server:
        monkeypatch.setattr(store, "catalog", lambda: {"tiny": replace(entry, url=server.url)})
        with pytest.raises(ZooError, match="^tiny: ") as caught:
            get_model("tiny")
    assert "\n" not in str(caught.value)
    assert not list((cache / "models").iterdir())


def test_names_that_are_unknown_or_not_fetched_say_what_to_do():
    with pytest.raises(ZooError, match="expected one of tiny, ppa-v39"):
        resolve("ppa-v40")
    with pytest.raises(ZooError, match="run: sor-ppa models get ppa-v39"):
        resolve("ppa-v39")


def test_every_entry_has_a_valid_config_an_author_page_and_one_way_to_get_it():
    for entry in catalog().values():
        check_config(store.model_config(entry))
        assert entry.page.startswith("https://")
        assert entry.task in ("rank", "detect", "saliency", "pretrain")
        assert entry.params > 0
        if entry.classes == "coco":
            assert len(store.class_names(entry)) == 80
