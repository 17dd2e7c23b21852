from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from sor_ppa.data import cache as cache_module
from sor_ppa.data.builtin import DatasetSource
from sor_ppa.data.formats import FORMATS
from tests.data.folders import make_assr_folder, make_coco_folder, make_irsr_folder, make_painted_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for caches; even tiny datasets are cached."""
    monkeypatch.setenv("SOR_PPA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache_module, "SMALLEST", 1)
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path: Path, folder: Path) -> DatasetSource:
    make_assr_folder(tmp_path / "ASSR", ["train"])
    return DatasetSource("assr_train", "ASSR", "assr", "train", str(tmp_path))


def from_cache(source: DatasetSource, caplog: pytest.LogCaptureFixture) -> bool:
    """Whether reading a dataset now takes the cache."""
    caplog.clear()
    with caplog.at_level("INFO", logger="sor_ppa.data.cache"):
        found = source.records()
    assert found == source.read()
    return "from the cache" in caplog.text


def test_the_second_time_comes_from_the_cache(
    source: DatasetSource, caplog: pytest.LogCaptureFixture
) -> None:
    assert not from_cache(source, caplog)
    assert from_cache(source, caplog)


@pytest.mark.parametrize("kind", ["irsr", "coco", "painted"])
def test_every_kind_of_mask_comes_back(
    kind: str, tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = {"irsr": make_irsr_folder, "coco": make_coco_folder, "painted": make_painted_folder}[kind]
    maker(tmp_path / "set")
    source = DatasetSource("set_train", "set", kind, "train", str(tmp_path))
    assert not from_cache(source, caplog)
    assert from_cache(source, caplog)


@pytest.mark.parametrize(
    "file", ["obj_seg_data_train.json", "rank_order/train/train_001.json", "images/train/train_002.jpg"]
)
def test_a_changed_file_refreshes_it(
    source: DatasetSource, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    source.records()
    path = source.path / file
    path.write_bytes(path.read_bytes() + b" ")
    assert not from_cache(source, caplog)
    assert from_cache(source, caplog)


def test_a_change_that_keeps_size_and_time_is_seen(
    source: DatasetSource, caplog: pytest.LogCaptureFixture
) -> None:
    source.records()
    path = source.path / "rank_order/train/train_000.json"
    status = path.stat()
    path.write_text(path.read_text().replace("0.9", "0.7"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert not from_cache(source, caplog)


def test_a_new_time_of_an_image_is_a_change(source: DatasetSource, caplog: pytest.LogCaptureFixture) -> None:
    source.records()
    os.utime(source.path / "images/train/train_000.jpg", ns=(1, 1))
    assert not from_cache(source, caplog)


def test_an_image_replaced_by_as_many_bytes_under_its_old_time_is_a_change(
    source: DatasetSource, caplog: pytest.LogCaptureFixture
) -> None:
    from_cache(source, caplog)
    path = Path(source.read()[0].file_name)
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(bytes(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not from_cache(source, caplog)


def test_what_a_cache_cannot_hold_is_no_fault(
    source: DatasetSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unable(records: object) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(cache_module, "_pack", unable)
    assert source.records() == source.read()
    assert list(folder.iterdir()) == []


def test_options_have_caches_of_their_own(source: DatasetSource, caplog: pytest.LogCaptureFixture) -> None:
    source.records()
    other = DatasetSource("assr_train", "ASSR", "assr", "train", source.root, keep_rankless=True)
    assert not from_cache(other, caplog)
    assert from_cache(source, caplog)


def test_an_image_that_vanished_is_an_error_again(source: DatasetSource) -> None:
    source.records()
    (source.path / "images/train/train_000.jpg").unlink()
    with pytest.raises(ValueError, match="no such image"):
        source.records()


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04" + bytes(100)])
def test_a_broken_cache_is_ignored_and_replaced(
    source: DatasetSource, folder: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    source.records()
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert not from_cache(source, caplog)
    assert from_cache(source, caplog)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_cache_is_ignored(
    source: DatasetSource, folder: Path, share: float, caplog: pytest.LogCaptureFixture
) -> None:
    source.records()
    (path,) = folder.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert not from_cache(source, caplog)


def rewrite(path: Path, **changes: np.ndarray) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    with open(path, "wb") as stream:
        np.savez(stream, **{**arrays, **changes})


@pytest.mark.parametrize(
    "name", ["names", "images", "boxes", "facts", "kinds", "parts", "lengths", "coordinates"]
)
def test_arrays_that_do_not_fit_are_ignored(
    source: DatasetSource, folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source.records()
    (path,) = folder.iterdir()
    with np.load(path) as file:
        shortened = file[name][:-1]
    rewrite(path, **{name: shortened})
    assert not from_cache(source, caplog)


def test_pickled_objects_in_a_cache_are_not_loaded(
    source: DatasetSource, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source.records()
    (path,) = folder.iterdir()
    rewrite(path, boxes=np.array([{"a": 1}], dtype=object))
    assert not from_cache(source, caplog)


def test_the_cache_of_another_dataset_is_ignored(
    source: DatasetSource, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source.records()
    (path,) = folder.iterdir()
    make_assr_folder(tmp_path / "two" / "ASSR", ["train"], values=[(1.0,)])
    other = DatasetSource("assr_train", "ASSR", "assr", "train", str(tmp_path / "two"))
    other.records()
    (second,) = set(folder.iterdir()) - {path}
    second.write_bytes(path.read_bytes())
    assert not from_cache(other, caplog)


def test_a_disk_that_takes_nothing_is_no_fault(
    source: DatasetSource, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file where the folder should be")
    assert not from_cache(source, caplog)
    assert not from_cache(source, caplog)


def test_small_datasets_are_not_cached(
    source: DatasetSource, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SMALLEST", 6)
    source.records()
    assert not folder.exists()


def test_it_can_be_turned_off(source: DatasetSource, folder: Path) -> None:
    DatasetSource("assr_train", "ASSR", "assr", "train", source.root, cache=False).records()
    assert not folder.exists()


def _read_often(source: DatasetSource, count: int, results: multiprocessing.Queue) -> None:
    cache_module.SMALLEST = 1
    results.put({len(source.records()) for _ in range(count)})


def test_processes_at_the_same_time_do_not_meet(source: DatasetSource, folder: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_read_often, args=(source, 8, results)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in range(6):
        for file in list(folder.glob("*.npz")):
            file.unlink(missing_ok=True)
    assert [results.get(timeout=120) for _ in workers] == [{5}] * 4
    for worker in workers:
        worker.join()
    assert not [path for path in folder.iterdir() if path.suffix != ".npz"]


def test_every_format_names_its_files(tmp_path: Path) -> None:
    for kind in FORMATS.values():
        assert all(isinstance(str(path), str) for path in kind.contents(tmp_path / "absent", "train"))
