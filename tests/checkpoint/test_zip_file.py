"""Zip archives that torch never writes: each refused with one line."""

from __future__ import annotations

import copy
import io
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from sor_ppa.checkpoint import read_checkpoint

from . import files
from .files import refusal

CONTENT = bytes(range(16))


def archive(*more: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    """A torch archive of one tensor, and further members at the top."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        target.writestr("archive/data.pkl", files.tensor_pickle())
        target.writestr("archive/data/0", CONTENT)
        for name, content in more:
            target.writestr(name, content)
    return buffer.getvalue()


def entry_of(data: bytes, index: int) -> int:
    """Where an entry of the table of contents begins."""
    position = -1
    for _ in range(index + 1):
        position = data.index(b"PK\x01\x02", position + 1)
    return position


def patched(data: bytes, position: int, layout: str, value: int) -> bytes:
    piece = struct.pack(layout, value)
    return data[:position] + piece + data[position + len(piece) :]


def test_an_archive_of_the_library_is_read(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(archive())
    found = read_checkpoint(tmp_path / "w").tensors["weight"]
    assert torch.equal(found, torch.frombuffer(bytearray(CONTENT), dtype=torch.float32))


def test_members_over_each_other_are_refused(tmp_path: Path) -> None:
    # A thousand names for the same bytes: a file of 1 MB that asks for a gigabyte.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        target.writestr("archive/data.pkl", files.tensor_pickle())
        target.writestr("archive/data/0", CONTENT)
        twin = copy.copy(target.infolist()[1])
        twin.filename = twin.orig_filename = "archive/data/1"
        target.filelist.append(twin)
    (tmp_path / "w").write_bytes(buffer.getvalue())
    assert "reaches over byte" in refusal(tmp_path / "w")


def test_a_member_over_the_table_of_contents_is_refused(tmp_path: Path) -> None:
    data = archive()
    entry = entry_of(data, 1)
    larger = patched(patched(data, entry + 20, "<L", 40), entry + 24, "<L", 40)
    (tmp_path / "w").write_bytes(larger)
    assert "reaches over byte" in refusal(tmp_path / "w")


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("archive/link")
    link.external_attr = 0o120777 << 16
    (tmp_path / "w").write_bytes(archive((link, b"/etc/passwd")))
    assert "member 'archive/link' is a symbolic link" in refusal(tmp_path / "w")


@pytest.mark.parametrize("name", ["/etc/x", "../../x", "archive/../x", "..\\x"])
def test_names_outside_the_archive_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(archive((name, b"x")))
    assert "lies outside the archive" in refusal(tmp_path / "w")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    data = archive()
    (tmp_path / "w").write_bytes(patched(data, entry_of(data, 1) + 8, "<H", 1))
    assert "'archive/data/0' is encrypted" in refusal(tmp_path / "w")


def test_a_member_under_another_name_is_refused(tmp_path: Path) -> None:
    data = archive()
    position = data.index(b"archive/data/0")
    (tmp_path / "w").write_bytes(data[:position] + b"archive/data/9" + data[position + 14 :])
    assert "another name than 'archive/data/0'" in refusal(tmp_path / "w")


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    data = archive()
    (tmp_path / "w").write_bytes(patched(data, entry_of(data, 1) + 16, "<L", 12345))
    assert "does not agree with its checksum" in refusal(tmp_path / "w")


END = {
    "more entries": (8, "<HH", (3, 3)),
    "other parts": (4, "<H", (1,)),
    "another begin": (16, "<L", (1,)),
    "another size": (12, "<L", (2**31,)),
    "a comment that is not there": (20, "<H", (7,)),
    "64 bits that are not there": (16, "<L", (2**32 - 1,)),
}


@pytest.mark.parametrize("case", END)
def test_a_wrong_end_is_refused(case: str, tmp_path: Path) -> None:
    offset, layout, values = END[case]
    data = bytearray(archive())
    struct.pack_into(layout, data, data.rindex(b"PK\x05\x06") + offset, *values)
    (tmp_path / "w").write_bytes(data)
    assert "zip archive" in refusal(tmp_path / "w")


def test_a_wrong_64_bit_end_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4)}, tmp_path / "w")
    data = (tmp_path / "w").read_bytes()
    end = data.index(b"PK\x06\x06")
    for offset, value in ((24, 2**40), (40, 2**50), (48, 2**62), (48, 0)):
        (tmp_path / "w").write_bytes(patched(data, end + offset, "<Q", value))
        assert "its two ends disagree" in refusal(tmp_path / "w")
    (tmp_path / "w").write_bytes(patched(data, data.index(b"PK\x06\x07") + 8, "<Q", 2**62))
    assert "damaged" in refusal(tmp_path / "w")


def test_a_64_bit_size_that_is_not_there_is_refused(tmp_path: Path) -> None:
    data = archive()
    (tmp_path / "w").write_bytes(patched(data, entry_of(data, 1) + 24, "<L", 2**32 - 1))
    assert "an entry without its 64-bit size" in refusal(tmp_path / "w")


def test_too_many_members_are_refused_before_they_are_read(tmp_path: Path) -> None:
    data = bytearray(archive())
    struct.pack_into("<HH", data, data.rindex(b"PK\x05\x06") + 8, 2**16 - 1, 2**16 - 1)
    (tmp_path / "w").write_bytes(data)
    assert "ends before its 65535 entries" in refusal(tmp_path / "w")


def test_bytes_behind_the_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(archive() + b"more")
    assert "other bytes behind its end" in refusal(tmp_path / "w")
