"""A file server on the loopback address that misbehaves on request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Server:
    """What is served, and how.

    Attributes:
        content: bytes of the file.
        cut_after: bytes after which each connection is cut; None for a whole answer.
        cuts: how many connections are cut; later ones are whole.
        ranges: whether Range requests are honored.
        extra_length: added to the true Content-Length.
        status: of every answer, where it is not 200.
        kind: Content-Type.
        pages: web pages that the first requests get instead.
        requests: the Range header of each request.
        paths: path and query of each request.
    """

    content: bytes
    cut_after: int | None = None
    cuts: int = 10**9
    ranges: bool = True
    extra_length: int = 0
    status: int = 200
    kind: str = "application/octet-stream"
    tag: str = '"one"'
    url: str = ""
    pages: list[bytes] = field(default_factory=list)
    requests: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Run the server in a thread; its address is ``server.url``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(self.headers.get("Range"))
            server.paths.append(self.path)
            if server.status != 200:
                self.send_error(server.status)
                return
            start, body = 0, server.pages.pop(0) if server.pages else server.content
            span = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if span and server.ranges and self.headers.get("If-Range") == server.tag:
                start = int(span[1])
                if start >= len(body):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            else:
                self.send_response(200)
            body = body[start:]
            self.send_header("ETag", server.tag)
            self.send_header("Content-Type", server.kind)
            self.send_header("Content-Length", str(len(body) + server.extra_length))
            self.end_headers()
            if server.cut_after is not None and server.cuts > 0:
                server.cuts -= 1
                body = body[: server.cut_after]
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        server.url = f"http://127.0.0.1:{listener.server_address[1]}/weights.pth"
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()
