"""Folders of images without labels, and the cache of the boxes proposed for them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from sor_ppa.data.unlabelled import (
    ProposalCache,
    build_proposal_cache,
    list_images,
    register_folders,
    unlabelled_records,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, a hidden one and a text file."""
    root = tmp_path / "images"
    (root / "b").mkdir(parents=True)
    for side, name in enumerate(("z.jpg", "a.PNG", "b/c.jpeg", ".hidden.png"), start=1):
        Image.new("RGB", (side, side)).save(root / name)
    (root / "b" / "notes.txt").write_text("no image")
    return root


def propose(path: str) -> tuple[Any, Any]:
    """Two boxes, or none for c.jpeg; z.jpg cannot be read."""
    if path.endswith("c.jpeg"):
        return np.zeros((0, 4)), np.zeros(0)
    if path.endswith("z.jpg"):
        raise OSError("broken")
    return np.array([[0, 0, 80, 60], [5, 6, 70, 50]]), np.array([0.5, 0.25])


def build(folder: Path, files: list[str] | None = None, proposer: Any = propose, **settings: Any) -> Any:
    """The cache beside a folder, computed in this process."""
    files = list_images(folder) if files is None else files
    return build_proposal_cache(files, folder.parent / "cache", proposer, settings, workers=1)


def test_images_are_found_below_the_folder_in_order(folder: Path) -> None:
    assert [p.removeprefix(str(folder)) for p in list_images(folder)] == ["/a.PNG", "/b/c.jpeg", "/z.jpg"]


def test_a_missing_or_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected .*, found no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"expected files ending in .*, found no image"):
        list_images(tmp_path)


def test_folders_are_datasets(folder: Path) -> None:
    name = f"folder://{folder}"
    register_folders((name, "something_else"))
    register_folders((name,))
    assert DatasetCatalog.get(name) == unlabelled_records((name,))
    assert MetadataCatalog.get(name).thing_classes == ["unlabelled"]
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_the_cache_holds_every_image_in_order(folder: Path) -> None:
    cache = build(folder, method="x")
    assert len(cache) == 3
    assert cache.counts().tolist() == [2, 0, 0]
    assert cache.boxes(0).tolist() == [[0, 0, 80, 60], [5, 6, 70, 50]]
    assert cache.boxes(1).shape == (0, 4)
    assert pickle.loads(pickle.dumps(cache)).counts().tolist() == [2, 0, 0]


def test_an_interrupted_cache_goes_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sor_ppa.data.unlabelled._PART", 1)
    files, asked = list_images(folder), []

    def stop_at_second(path: str) -> tuple[Any, Any]:
        asked.append(path)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return propose(path)

    with pytest.raises(KeyboardInterrupt):
        build(folder, proposer=stop_at_second)
    with pytest.raises(FileNotFoundError, match="expected a finished proposal cache"):
        ProposalCache(folder.parent / "cache")
    assert build(folder, proposer=stop_at_second).counts().tolist() == [2, 0, 0]
    assert len(build(folder, proposer=stop_at_second)) == 3
    assert asked == [*files[:2], *files[1:]]  # a finished cache is not computed again


def test_several_processes_give_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sor_ppa.data.unlabelled._PART", 1)
    cache = build_proposal_cache(list_images(folder), folder.parent / "cache", propose, {}, workers=2)
    assert cache.counts().tolist() == [2, 0, 0]


def test_a_cache_of_other_settings_or_images_is_refused(folder: Path) -> None:
    build(folder, method="x")
    with pytest.raises(ValueError, match=r"field 'method': expected 'y', found 'x'"):
        build(folder, method="y")
    with pytest.raises(ValueError, match=r"field 'images': expected 2, found 3"):
        build(folder, list_images(folder)[:2], method="x")
    Image.new("RGB", (90, 90)).save(folder / "z.jpg")
    with pytest.raises(ValueError, match=r"field 'names'"):
        build(folder, method="x")


def test_a_moved_folder_keeps_its_cache(folder: Path) -> None:
    build(folder)
    assert len(build(folder.rename(folder.parent / "elsewhere"))) == 3


def test_a_damaged_cache_is_named(folder: Path) -> None:
    build(folder)
    (folder.parent / "cache" / "000000000.npz").write_bytes(b"no archive" * 100)
    with pytest.raises(ValueError, match=r"000000000\.npz: .* found a damaged file .*; remove it"):
        build(folder)
