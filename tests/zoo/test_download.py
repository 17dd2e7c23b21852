"""Downloads from a server that cuts connections, lies about lengths or sends web pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from sor_ppa.zoo import ZooError
from sor_ppa.zoo.download import check_hash, download
from tests.zoo.server import Server, serving

CONTENT = bytes(range(256)) * 400


def fetch(server: Server, path: Path) -> bytes:
    download(server.url, path, attempts=2, pause=0)
    return path.read_bytes()


def test_whole_file_with_progress(tmp_path: Path):
    seen: list[tuple[int, int | None]] = []
    with serving(Server(CONTENT)) as server:
        download(server.url, tmp_path / "f", progress=lambda done, total: seen.append((done, total)))
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_cut_connections_are_continued(tmp_path: Path):
    with serving(Server(CONTENT, cut_after=30_000)) as server:
        assert fetch(server, tmp_path / "f") == CONTENT
        assert server.requests == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def give_up(server: Server, path: Path) -> None:
    """A download whose first connection is cut and whose retries fail."""
    server.cut_after, server.cuts = 50_000, 1
    with pytest.raises(ZooError, match="what came is kept"):
        download(server.url, path, attempts=1, pause=0, progress=lambda *_: setattr(server, "status", 503))
    server.status = 200


def test_later_run_continues(tmp_path: Path):
    with serving(Server(CONTENT)) as server:
        give_up(server, tmp_path / "f")
        assert fetch(server, tmp_path / "f") == CONTENT
        assert server.requests[-1] == "bytes=50000-"


def test_changed_file_starts_anew(tmp_path: Path):
    with serving(Server(CONTENT)) as server:
        give_up(server, tmp_path / "f")
        server.content, server.tag = CONTENT[::-1], '"two"'
        assert fetch(server, tmp_path / "f") == CONTENT[::-1]


def test_server_without_ranges_starts_anew(tmp_path: Path):
    with serving(Server(CONTENT, cut_after=30_000, cuts=1, ranges=False)) as server:
        assert fetch(server, tmp_path / "f") == CONTENT


@pytest.mark.parametrize(
    ("server", "message"),
    [
        (Server(CONTENT, extra_length=10), "ended early"),
        (Server(b"<!DOCTYPE html><title>Quota exceeded</title>"), "found a web page"),
        (Server(b"", status=404), "the server answered 404 Not Found"),
        (Server(b"", status=503), "the server answered 503 Service Unavailable"),
    ],
    ids=["too short", "web page", "missing", "unavailable"],
)
def test_what_is_not_the_file_is_refused(tmp_path: Path, server: Server, message: str):
    with serving(server), pytest.raises(ZooError, match=message) as caught:
        fetch(server, tmp_path / "f")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "f").exists()


def test_other_schemes_are_refused(tmp_path: Path):
    with pytest.raises(ZooError, match="expected an http or https address"):
        download("file:///etc/passwd", tmp_path / "f")


def test_hashes(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"abc")
    check_hash(tmp_path / "f", "md5:900150983cd24fb0d6963f7d28e17f72")
    check_hash(tmp_path / "f", "sha256:ba7816bf")
    with pytest.raises(ZooError, match="expected md5:0, found md5:900150983cd24fb0d6963f7d28e17f72"):
        check_hash(tmp_path / "f", "md5:0")
