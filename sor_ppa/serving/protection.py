"""What stands before every route: who may ask, how much, for how long."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import MutableMapping
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import h11
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from .errors import RequestRefused
from .limits import Limits
from .metrics import RequestCounts

__all__ = ["Protection", "connection_class", "is_loopback", "refusal"]

_COOKIE = "sor_ppa_token"
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)
_LINGER_SECONDS = 1.0


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by a name that nobody else can give to an address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def refusal(error: RequestRefused) -> Response:
    """Return the answer to a request that is refused."""
    return JSONResponse(error.content, error.status, error.headers)


class Protection:
    """ASGI middleware that checks each request and reads its body before the application sees it.

    - Without a token, only names of this machine are served, so that no web page can reach the server under a
      name of its own (DNS rebinding). With one, every request needs it: ``Authorization: Bearer``, or the
      cookie that ``/?token=`` sets.
    - Changes are refused if a browser says that they come from another site.
    - Bodies are limited in size, together and each, and in time; so is the time to answer.

    Args:
        app: the application.
        limits: see :class:`Limits`.
        token: None on the loopback address.
        counts: of requests, under the pattern of their route, so that clients cannot make new names.
    """

    def __init__(self, app: ASGIApp, limits: Limits, token: str | None, counts: RequestCounts) -> None:
        self.app, self.limits, self.token, self.counts = app, limits, token, counts
        self.requests = self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        start, status = time.perf_counter(), 0

        async def send_protected(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                fields = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    fields.setdefault(name, value)
            await send(message)

        self.requests += 1
        try:
            await self._answer(scope, headers, receive, send_protected)
        except RequestRefused as error:
            if status:
                raise
            await _refuse(error, scope, receive, send_protected)
        finally:
            self.requests -= 1
            route = getattr(scope.get("route"), "path", "other")
            self.counts.add(route, status or 500, time.perf_counter() - start)

    async def _answer(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        if self.requests > self.limits.requests:
            sentence = f"expected at most {self.limits.requests} requests at one time, found more; try later"
            raise RequestRefused(429, sentence, retry_after=2)
        if self._sign_in(scope):
            response = RedirectResponse("/", 303)
            response.set_cookie(_COOKIE, self.token or "", httponly=True, samesite="strict")
            await response(scope, receive, send)
            return
        self._check_sender(scope, headers)
        held = [0]
        try:
            try:
                body = await asyncio.wait_for(self._body(headers, receive, held), self.limits.body_seconds)
            except asyncio.TimeoutError:
                sentence = f"body: expected all of it within {self.limits.body_seconds:g} s, found a part"
                raise RequestRefused(408, sentence) from None
            try:
                # twice the time of a model, whose own limit answers with more to say
                await asyncio.wait_for(
                    self.app(scope, _replay(body, receive), send), 2 * self.limits.answer_seconds
                )
            except asyncio.TimeoutError:
                raise RequestRefused(503, "expected an answer in time, found none; try later", 10) from None
        finally:
            self.held_bytes -= held[0]

    def _sign_in(self, scope: Scope) -> bool:
        """Return whether the address of the page carries the token."""
        given = Request(scope).query_params.get("token", "")
        return bool(self.token) and scope["path"] == "/" and self._is_token(given)

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode("utf-8", "replace"), (self.token or "").encode())

    def _check_sender(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if self.token is None:
            name = _HOST.fullmatch(host)
            if not name or not is_loopback(name[1]):
                raise RequestRefused(
                    403, "Host: expected localhost or a loopback address, found another name"
                )
        else:
            given = headers.get("authorization", "").removeprefix("Bearer ")
            if not self._is_token(given) and not self._is_token(Request(scope).cookies.get(_COOKIE, "")):
                wanted = "Authorization: Bearer TOKEN, or the address /?token=TOKEN"
                raise RequestRefused(401, f"token: expected {wanted}, found neither")
        if scope["method"] not in ("GET", "HEAD"):
            origin = headers.get("origin")
            foreign = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
            if foreign or (origin is not None and origin.partition("://")[2] != host):
                raise RequestRefused(403, "Origin: expected the page of this server, found another site")

    async def _body(self, headers: Headers, receive: Receive, held: list[int]) -> bytes:
        """Return the body; ``held`` counts its bytes also when it is refused."""
        most = self.limits.body_bytes
        length = headers.get("content-length", "0")
        if int(length) > most:
            raise RequestRefused(413, f"body: expected at most {most} bytes, found {length}")
        chunks = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestRefused(400, "body: expected all of it, found a part")
            chunk = message.get("body", b"")
            held[0] += len(chunk)
            self.held_bytes += len(chunk)
            if held[0] > most:
                raise RequestRefused(413, f"body: expected at most {most} bytes, found more")
            if self.held_bytes > self.limits.held_bytes:
                raise RequestRefused(
                    429, "expected memory for this body, found none; try later", retry_after=2
                )
            chunks.append(chunk)
            more = message.get("more_body", False)
        return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body, then waits for the client to leave."""
    sent = False

    async def replayed() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _refuse(error: RequestRefused, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, then read on for a moment: a closed connection with unread data would lose the answer."""
    response = refusal(error)
    response.headers["Connection"] = "close"
    await send(
        {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    )
    await send({"type": "http.response.body", "body": response.body, "more_body": True})

    async def drain() -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body"):
                return

    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(drain(), _LINGER_SECONDS)
    await send({"type": "http.response.body", "body": b""})


def connection_class(seconds: float) -> type[H11Protocol]:
    """Return uvicorn's connection with a limit on the time in which the headers of a request arrive."""

    class Connection(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(seconds, self._close_if_late, None)

        def _close_if_late(self, last: Any) -> None:
            """Close the connection if no request came since the last look and part of one waits."""
            if self.transport.is_closing():
                return
            waits = self.conn.their_state is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0])
            if waits and self.cycle is last:
                body = b'{"error":"headers: expected all of them in time, found a part"}'
                head = (
                    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nConnection: close\r\n"
                )
                self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                self.transport.close()
                return
            self.loop.call_later(seconds, self._close_if_late, self.cycle)

    return Connection
