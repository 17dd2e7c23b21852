"""Who may ask, how much, and what is refused."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.fake_model import FakeModel, fake_predictor

from .running import JPEG, document, encoded, running


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with running(tmp_path, body_bytes=100_000, pixels=10_000) as client:
        yield client


def bomb(side: int = 60_000) -> bytes:
    """A PNG file whose header claims side x side pixels."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (bomb(), "image/png", 413),
        (bomb(101), "image/png", 413),
        (bomb(99), "image/png", 422),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png", 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415),
        (b"", "image/png", 400),
        (encoded(), "text/plain", 415),
        (b"x" * 100_001, "image/png", 413),
        (encoded()[:-2000], "image/png", 422),
    ],
)
@pytest.mark.parametrize("route", ["/rank", "/api/photos?name=a.png"])
def test_unusable_pictures_are_refused(
    client: TestClient, body: bytes, kind: str, status: int, route: str
) -> None:
    answer = client.post(route, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert len(answer.json()["error"].splitlines()) == 1


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "a@localhost/"]
)
def test_other_host_names_are_refused(client: TestClient, host: str) -> None:
    assert client.get("/api/photos", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:80"])
def test_names_of_this_machine_are_served(client: TestClient, host: str) -> None:
    assert client.get("/api/photos", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:1"},
    ],
)
def test_other_sites_cannot_change_anything(
    client: TestClient, headers: dict[str, str], tmp_path: Path
) -> None:
    answer = client.post("/api/photos?name=a.png", content=encoded(), headers={**JPEG, **headers})
    assert answer.status_code == 403
    assert list((tmp_path / "images").iterdir()) == []


def test_the_own_page_can(client: TestClient) -> None:
    headers = {**JPEG, "Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/photos?name=a.png", content=encoded(), headers=headers).status_code == 201


def test_pages_cannot_load_or_frame_anything_else(client: TestClient) -> None:
    headers = client.get("/health").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd", "/page/..%2fapp.py"]
)
def test_paths_do_not_leave_the_page(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("name", ["../../up.png", "/abs.png", "a\\..\\b.png", ".lock", "x" * 300, "\x00", ""])
def test_names_of_photos_do_not_leave_the_folder(client: TestClient, tmp_path: Path, name: str) -> None:
    assert (
        client.post("/api/photos", params={"name": name}, content=encoded(), headers=JPEG).status_code == 201
    )
    assert [path.parent for path in tmp_path.rglob("*.png")] == [tmp_path / "images"]


def test_json_of_other_types_is_refused(client: TestClient) -> None:
    body = document().model_dump_json()
    client.post("/api/photos?name=a.png", content=encoded(), headers=JPEG)
    answer = client.put("/api/photos/a.png/annotation", content=body, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 422
    deep = client.post("/api/import", content="[" * 90_000, headers={"Content-Type": "application/json"})
    assert deep.status_code in (400, 422)


def test_a_token_is_needed(tmp_path: Path) -> None:
    with running(tmp_path, token="a b") as client:
        assert client.get("/health").status_code == 401
        assert client.get("/?token=wrong").status_code == 401
        assert client.get("/health", headers={"Authorization": "Bearer wrong"}).status_code == 401
        answer = client.get("/health", headers={"Authorization": "Bearer a b", "Host": "photos.example"})
        assert answer.status_code == 200
        answer = client.get("/", params={"token": "a b"}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in answer.headers["set-cookie"]
        assert client.get("/health").status_code == 200


class Gate(FakeModel):
    """A model that waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.started, self.open = threading.Event(), threading.Event()

    def forward(self, inputs: list[dict]) -> list[dict]:
        self.started.set()
        assert self.open.wait(20)
        return super().forward(inputs)


def send(client: TestClient) -> Any:
    return client.post("/rank", content=encoded(), headers=JPEG)


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    model = Gate()
    with (
        running(tmp_path, predictor=fake_predictor(model), waiting=1) as client,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(send, client)
        model.started.wait(20)
        second = pool.submit(send, client)
        while client.app.state.services.ranker.waiting < 1:  # type: ignore[attr-defined]
            pass
        refused = send(client)
        model.open.set()
        assert (first.result().status_code, second.result().status_code) == (200, 200)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1


def test_an_answer_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    model = Gate()
    with running(tmp_path, predictor=fake_predictor(model), answer_seconds=0.2) as client:
        answer = send(client)
        model.open.set()
    assert answer.status_code == 503


@pytest.mark.parametrize("limit", [{"requests": 0}, {"held_bytes": 10}])
def test_requests_and_memory_are_bounded_together(tmp_path: Path, limit: dict[str, int]) -> None:
    with running(tmp_path, **limit) as client:
        answer = send(client)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
