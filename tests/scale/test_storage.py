import uuid

import pytest

pytest.importorskip("ray", reason="needs ray")

from sor_ppa.scale.storage import Folder


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    return Folder(str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4()}")


def test_what_is_written_is_listed_and_read(folder):
    assert folder.names() == []
    folder.write("b", b"1")
    folder.write("sub/a", b"2")
    assert folder.names() == ["b"]
    assert folder.names("sub/") == ["sub/a"]
    assert folder.read("sub/a") == b"2"
    folder.remove("b")
    assert folder.names("b") == []


def test_a_file_is_whole_or_not_there(folder, monkeypatch):
    folder.write("a", b"former")

    def fail(*args, **options):
        raise OSError("no space")

    target = (
        "pathlib.Path.write_bytes"
        if "memory" not in folder.url
        else "fsspec.implementations.memory.MemoryFile.write"
    )
    with monkeypatch.context() as patch:
        patch.setattr(target, fail)
        with pytest.raises(OSError, match="no space"):
            folder.write("a", b"new")
    assert folder.read("a") == b"former"
    assert folder.names() == ["a"]
