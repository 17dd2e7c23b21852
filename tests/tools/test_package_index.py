import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from detectron2_wheel import BuildError
from detectron2_wheel.package_index import Settings, default_index, fetch, read_settings

FILE = "some-thing-1.0.tar.gz"
CONTENT = b"the archive"


def accept(data: bytes, origin: str) -> None:
    if data != CONTENT:
        raise BuildError(f"{origin}: wrong contents")


def get(settings: Settings) -> bytes:
    return fetch("some-thing", "1.0", accept, settings, pause=0.0)


class Server(http.server.ThreadingHTTPServer):
    """Answers from a table; a list of answers is used up one by one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[tuple[int, str, bytes]]] = {}
        self.seen: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def put(self, path: str, body: bytes, kind: str = "text/html", status: int = 200) -> None:
        self.answers.setdefault(path, []).append((status, kind, body))


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers.get("Authorization")))
        answers = self.server.answers.get(self.path) or [(404, "text/html", b"")]
        status, kind, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def simple(server: Server) -> Settings:
    return Settings(indexes=(f"{server.url}/simple",), timeout=5)


def page(*links: str) -> bytes:
    return "".join(f'<a href="{link}">x</a>' for link in links).encode()


def test_html_page_with_relative_link(server: Server, simple: Settings):
    server.put("/simple/some-thing/", page(f"../../files/{FILE}#sha256=00", "../../files/some-thing-1.0.zip"))
    server.put(f"/files/{FILE}", CONTENT)
    assert get(simple) == CONTENT


def test_json_page(server: Server, simple: Settings):
    body = json.dumps({"files": [{"filename": FILE, "url": f"/files/{FILE}"}]}).encode()
    server.put("/simple/some-thing/", body, "application/vnd.pypi.simple.v1+json")
    server.put(f"/files/{FILE}", CONTENT)
    assert get(simple) == CONTENT


def test_broken_json_page_is_named(server: Server, simple: Settings):
    server.put("/simple/some-thing/", b"{}", "application/vnd.pypi.simple.v1+json")
    with pytest.raises(BuildError, match="not a package index page"):
        get(simple)


def test_login_in_the_address_is_sent_and_not_shown(server: Server):
    url = server.url.replace("http://", "http://user:secret@")
    with pytest.raises(BuildError) as caught:
        get(Settings(indexes=(f"{url}/simple",), timeout=5))
    assert server.seen[0] == ("/simple/some-thing/", "Basic dXNlcjpzZWNyZXQ=")
    assert "secret" not in str(caught.value)


def test_second_index_is_asked_when_the_first_does_not_have_it(server: Server):
    server.put("/two/some-thing/", page(f"{server.url}/files/{FILE}"))
    server.put(f"/files/{FILE}", CONTENT)
    assert get(Settings(indexes=(f"{server.url}/one", f"{server.url}/two/"), timeout=5)) == CONTENT


def test_temporary_failure_is_tried_again(server: Server, simple: Settings):
    server.put("/simple/some-thing/", b"", status=503)
    server.put("/simple/some-thing/", page(f"/files/{FILE}"))
    server.put(f"/files/{FILE}", CONTENT)
    assert get(simple) == CONTENT


def test_other_versions_are_not_taken(server: Server, simple: Settings):
    server.put("/simple/some-thing/", page("/files/some-thing-1.0.1.tar.gz", "/files/some-thing-11.0.tar.gz"))
    with pytest.raises(BuildError, match=r"some-thing 1\.0: not found on http://127"):
        get(simple)


def test_refused_copy_is_reported(server: Server, simple: Settings):
    server.put("/simple/some-thing/", page(f"/files/{FILE}"))
    server.put(f"/files/{FILE}", b"tampered")
    with pytest.raises(BuildError, match=rf"{FILE}: wrong contents"):
        get(simple)


def test_good_copy_elsewhere_serves_when_one_is_refused(server: Server, tmp_path: Path):
    (tmp_path / FILE).write_bytes(b"tampered")
    server.put("/simple/some-thing/", page(f"/files/{FILE}"))
    server.put(f"/files/{FILE}", CONTENT)
    settings = Settings(indexes=(f"{server.url}/simple",), find_links=(str(tmp_path),), timeout=5)
    assert get(settings) == CONTENT


def test_unreachable_index_is_one_line_with_what_to_do(server: Server):
    server.put("/simple/some-thing/", b"", status=502)
    with pytest.raises(BuildError, match=r"cannot read http://127.*HTTP 502.*--sdist") as caught:
        get(Settings(indexes=(f"{server.url}/simple",), timeout=5))
    assert "\n" not in str(caught.value)


def test_folder_of_files(tmp_path: Path):
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "some_thing-1.0.tar.gz").write_bytes(CONTENT)
    assert get(Settings(indexes=(), find_links=(str(folder),))) == CONTENT


def test_index_on_disk(tmp_path: Path):
    folder = tmp_path / "simple" / "some-thing"
    folder.mkdir(parents=True)
    (folder / "index.html").write_bytes(page(f"../../{FILE}#sha256=00"))
    (tmp_path / FILE).write_bytes(CONTENT)
    assert get(Settings(indexes=((tmp_path / "simple").as_uri(),))) == CONTENT


def test_nowhere_to_look_is_said():
    with pytest.raises(BuildError, match="no-index is set"):
        get(Settings(indexes=()))


def test_pypi_is_the_default_index():
    assert read_settings({}, lambda: "") == Settings(indexes=(default_index(),))


def test_environment_overrides_files_and_commands_override_global():
    config = "\n".join(
        [
            "global.index-url='https://a/simple'",
            "install.index-url='https://b/simple'",
            "global.extra-index-url='https://c/simple\\nhttps://d/simple'",
            "global.cert='/global.pem'",
            ":env:.cert='/shown.pem'",
            "nonsense",
        ]
    )
    environ = {"PIP_CERT": "/env.pem", "PIP_DEFAULT_TIMEOUT": "40", "PIP_TRUSTED_HOST": "x y:1"}
    settings = read_settings(environ, lambda: config)
    assert settings.indexes == ("https://b/simple", "https://c/simple", "https://d/simple")
    assert settings.cert == "/env.pem"
    assert settings.timeout == 40
    assert settings.trusted_hosts == ("x", "y:1")


def test_no_index_leaves_find_links():
    settings = read_settings({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/a /b"}, lambda: "")
    assert (settings.indexes, settings.find_links) == ((), ("/a", "/b"))
