"""The server on a socket: slow and large senders, load, and a kill at any time."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.bench_serve import send_load
from sor_ppa.serving.limits import Limits
from sor_ppa.serving.models import ModelList
from sor_ppa.serving.server import serve
from sor_ppa.serving.workspace import Workspace
from tests.fake_model import fake_predictor, picture

from .running import JPEG, document, encoded
from .serve_fake import LIMITS


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen, str, Path]]:
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-m", "tests.serving.serve_fake", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server, server.stdout.readline().strip().rstrip("/"), folder
        server.kill()


@pytest.fixture
def address(process: tuple[subprocess.Popen, str, Path]) -> str:
    return process[1]


def say(address: str, *parts: bytes) -> bytes:
    """Send bytes without ending the request; return what the server says until it closes the connection."""
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def error(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def test_slow_headers_are_refused(address: str) -> None:
    status, sentence = error(say(address, b"GET /health HTTP/1.1\r\nHost: loc"))
    assert (status, sentence) == (408, "headers: expected all of them in time, found a part")


def test_a_slow_body_is_refused(address: str) -> None:
    head = (
        b"POST /rank HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n123"
    )
    assert error(say(address, head)) == (408, "body: expected all of it within 1 s, found a part")


def test_a_large_body_is_refused_while_it_is_sent(address: str) -> None:
    answer = httpx.post(f"{address}/rank", content=b"x" * (LIMITS.body_bytes + 1), headers=JPEG)
    assert answer.status_code == 413
    chunked = httpx.post(f"{address}/rank", content=iter([b"x" * 2**16] * 40), headers=JPEG)
    assert (chunked.status_code, chunked.json()["error"][:30]) == (413, "body: expected at most 1048576")


def test_answers_under_load_are_those_of_single_pictures(address: str) -> None:
    sizes = [(60, 80), (50, 70), (80, 60), (64, 100)]
    arrays = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    expected = [{**fake_predictor()(array).to_json(), "model": "fake"} for array in arrays]
    files = [encoded(*size, seed=i) for i, size in enumerate(sizes)]
    report = asyncio.run(send_load(address, files, expected, clients=12, seconds=2))
    assert report.statuses[200] > 12
    assert set(report.statuses) <= {200, 429}
    assert (report.wrong, report.broken) == (0, 0)


def test_a_killed_server_loses_nothing_that_it_confirmed(process: Any) -> None:
    server, address, folder = process
    photo = httpx.post(f"{address}/api/photos?name=k.png", content=encoded(), headers=JPEG).json()["id"]
    threading.Timer(1.0, server.send_signal, [signal.SIGKILL]).start()
    confirmed = 0
    try:
        while True:
            body = document({"left": confirmed % 60, "rank": 1}, version=confirmed).model_dump(by_alias=True)
            saved = httpx.put(f"{address}/api/photos/{photo}/annotation", json=body).raise_for_status().json()
            confirmed = saved["version"]
    except httpx.TransportError:
        pass
    server.wait()
    workspace = Workspace(folder, Limits())
    found = workspace.document(workspace.photo(photo), "me")
    workspace.close()
    assert confirmed > 1
    assert found.version in (confirmed, confirmed + 1)
    assert found.objects == document({"left": (found.version - 1) % 60, "rank": 1}).objects


def test_another_address_needs_a_token(tmp_path: Path) -> None:
    models = ModelList("fake", fake_predictor())
    with pytest.raises(ValueError, match="expected a loopback address, or --token"):
        serve(tmp_path, models, host="0.0.0.0")


def test_a_folder_has_one_server(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, Limits())
    with pytest.raises(ValueError, match="expected a folder without a server"):
        Workspace(tmp_path, Limits())
    workspace.close()
    Workspace(tmp_path, Limits()).close()
