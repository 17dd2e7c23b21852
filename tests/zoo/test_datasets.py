"""Unpacking archives, among them hostile ones."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from sor_ppa.zoo import ZooError, datasets
from sor_ppa.zoo.datasets import get_dataset, unpack


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_plain_files(tmp_path: Path, make):
    archive = make(tmp_path / "a", {"ASSR/x/1.txt": b"one", "ASSR/2.txt": b""})
    unpack(archive, tmp_path / "out", limit=100)
    assert (tmp_path / "out/ASSR/x/1.txt").read_bytes() == b"one"
    assert (tmp_path / "out/ASSR/2.txt").read_bytes() == b""


@pytest.mark.parametrize("make", [make_zip, make_tar])
@pytest.mark.parametrize("name", ["../out.txt", "/abs.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt"])
def test_names_that_lead_out_are_refused(tmp_path: Path, make, name: str):
    archive = make(tmp_path / "a", {name: b"x"})
    with pytest.raises(ZooError, match="expected names inside the archive"):
        unpack(archive, tmp_path / "deep" / "out", limit=100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes):
    with pytest.raises(ZooError, match="a link or device"):
        unpack(make_tar(tmp_path / "a", {"x": b""}, kind), tmp_path / "out", limit=100)


def test_limits(tmp_path: Path):
    bomb = make_zip(tmp_path / "a", {"zeros": bytes(10**7)})
    with pytest.raises(ZooError, match="at most 1000 bytes"):
        unpack(bomb, tmp_path / "out", limit=1000)
    many = make_zip(tmp_path / "b", {str(i): b"" for i in range(5)})
    with pytest.raises(ZooError, match="at most 3 files"):
        unpack(many, tmp_path / "out2", limit=1000, most_files=3)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut"])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ZooError, match=r"^\S+/a: .+$"):
        unpack(tmp_path / "a", tmp_path / "out", limit=1000)


def test_dataset_appears_whole_or_not_at_all(tmp_path: Path):
    bad = make_zip(tmp_path / "bad.zip", {"ASSR/1.txt": b"x", "../2.txt": b"x"})
    with pytest.raises(ZooError):
        get_dataset("assr", tmp_path / "datasets", archive=bad)
    assert not list((tmp_path / "datasets").iterdir())
    good = make_zip(tmp_path / "good.zip", {"ASSR/1.txt": b"x"})
    folder = get_dataset("assr", tmp_path / "datasets", archive=good)
    assert folder == tmp_path / "datasets" / "ASSR"
    assert (folder / "1.txt").read_bytes() == b"x"
    with pytest.raises(ZooError, match="expected no such folder"):
        get_dataset("assr", tmp_path / "datasets", archive=good)


def test_unknown_dataset_names_the_known_ones():
    with pytest.raises(ZooError, match=f"expected one of {', '.join(datasets.DATASETS)}"):
        get_dataset("imagenet", Path("x"))
