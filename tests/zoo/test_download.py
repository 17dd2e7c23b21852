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
        (Server(b"<!DOCTYPE html><title>Log in</title>"), "found the web page 'Log in'"),
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


SHARED = "https://drive.google.com/file/d/10oqR9-_P6/view?usp=sharing"
QUOTA = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>"
    b"Too many users have viewed or downloaded this file recently.</body></html>"
)
CONFIRM = (
    b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body><form "
    b'id="download-form" action="%s" method="get"><input type="submit" value="Download anyway"/>'
    b'<input type="hidden" name="id" value="10oqR9-_P6"><input type="hidden" name="confirm" value="t">'
    b'<input type="hidden" name="uuid" value="a&amp;b"></form></body></html>'
)


@pytest.fixture
def drive(monkeypatch):
    """A server that plays Google Drive."""
    with serving(Server(CONTENT)) as server:
        monkeypatch.setattr("sor_ppa.zoo.download._DRIVE_DOWNLOAD", server.url)
        yield server


@pytest.mark.parametrize("link", [SHARED, "https://drive.google.com/uc?id=10oqR9-_P6"])
def test_drive_links_name_the_file(tmp_path: Path, drive: Server, link: str):
    drive.cut_after = 50_000
    download(link, tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert set(drive.paths) == {"/weights.pth?id=10oqR9-_P6&export=download&confirm=t"}
    assert drive.requests == [None, "bytes=50000-", "bytes=100000-"]


def test_drive_asks_before_large_files(tmp_path: Path, drive: Server):
    drive.pages = [CONFIRM % drive.url.encode()]
    download(SHARED, tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert drive.paths[1] == "/weights.pth?id=10oqR9-_P6&confirm=t&uuid=a%26b"


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([QUOTA], "'Google Drive - Quota exceeded'"),
        ([CONFIRM % b"/weights.pth", QUOTA], "'Google Drive - Quota exceeded'"),
        ([CONFIRM % b"http://127.0.0.2/weights.pth"], "'Google Drive - Virus scan warning'"),
    ],
    ids=["quota", "quota after the question", "form of another host"],
)
def test_drive_pages_are_one_line_with_the_way_out(
    tmp_path: Path, drive: Server, pages: list[bytes], found: str
):
    drive.pages = list(pages)
    with pytest.raises(ZooError) as caught:
        download(SHARED, tmp_path / "f", pause=0)
    advice = "open the address in a browser and pass the file with --file"
    assert str(caught.value) == f"{SHARED}: expected a file, found the web page {found}; {advice}"
    assert not list(tmp_path.glob("*.part"))


def test_drive_folders_are_refused(tmp_path: Path):
    with pytest.raises(ZooError, match="expected a Google Drive link of one file"):
        download("https://drive.google.com/drive/folders/1AbC", tmp_path / "f")


def test_other_schemes_are_refused(tmp_path: Path):
    with pytest.raises(ZooError, match="expected an http or https address"):
        download("file:///etc/passwd", tmp_path / "f")


def test_hashes(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"abc")
    check_hash(tmp_path / "f", "md5:900150983cd24fb0d6963f7d28e17f72")
    check_hash(tmp_path / "f", "sha256:ba7816bf")
    with pytest.raises(ZooError, match="expected md5:0, found md5:900150983cd24fb0d6963f7d28e17f72"):
        check_hash(tmp_path / "f", "md5:0")
