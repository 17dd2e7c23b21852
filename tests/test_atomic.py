"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from sor_ppa.atomic import DiskFullError, atomic_write


def test_the_new_file_takes_the_place_of_the_former(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with atomic_write(target) as file:
        file.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt()])
def test_an_error_keeps_the_former_file(error: BaseException, tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(type(error)), atomic_write(target) as file:  # noqa: PT012
        file.write_text("half")
        raise error
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named(number: int, tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match=rf"^disk full: {tmp_path}/a$"), atomic_write(tmp_path / "a"):
        raise OSError(number, "no space")


def test_other_words_for_a_full_disk_are_recognized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError), atomic_write(tmp_path / "a"):
        raise RuntimeError("[enforce fail at inline_container.cc:672]")


def test_a_missing_folder_is_the_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "no" / "a") as file:
        file.write_text("new")


def test_a_killed_writer_keeps_the_former_file(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_text("old")
    child = os.fork()
    if not child:
        with atomic_write(target) as file:
            file.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert target.read_text() == "old"
    with atomic_write(target) as file:
        file.write_text("new")
    assert os.listdir(tmp_path) == ["a"]


def test_a_pipe_is_written_directly(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with atomic_write(pipe) as file:
        file.write_text("new")
    assert os.read(reader, 9) == b"new"
    assert os.listdir(tmp_path) == ["pipe"]
    os.close(reader)
