"""Downloading a file: resumed after a cut connection, checked for length, hash and kind."""

from __future__ import annotations

import errno
import hashlib
import html
import http.client
import json
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

from .catalog import ZooError

__all__ = ["check_hash", "download", "file_hash"]

_log = logging.getLogger(__name__)
_CHUNK = 1 << 20  # bytes
_LIMIT = 20 << 30  # bytes; no published file is near it
_DRIVE_HOSTS = ("drive.google.com", "docs.google.com")
_DRIVE_DOWNLOAD = "https://drive.usercontent.google.com/download"

Progress = Callable[[int, int | None], None]


def download(
    url: str, path: Path, *, progress: Progress | None = None, attempts: int = 5, pause: float = 1.0
) -> None:
    """Download a file, continuing an earlier attempt.

    The bytes so far are kept in ``<path>.part``. They are continued only if the server still offers the same
    file (``If-Range``).

    Args:
        url: http or https; a sharing link of Google Drive, too.
        path: of the complete file.
        progress: called with the bytes so far and the total, None where the server does not say it.
        attempts: tries in a row that bring no new bytes before giving up.
        pause: seconds between tries.

    Raises:
        ZooError: the server does not send the file.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ZooError(f"{url}: expected an http or https address")
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    source = _drive_address(url) if urlsplit(url).hostname in _DRIVE_HOSTS else url
    try:
        _from_server(source, part, progress, attempts, pause)
        if confirmed := _confirmation(source, _web_page(part)):
            part.unlink()
            _from_server(confirmed, part, progress, attempts, pause)
    except OSError as error:
        raise ZooError(f"{part}: {'disk full' if error.errno == errno.ENOSPC else error}") from error
    if page := _web_page(part):
        part.unlink()
        title = re.search(r"<title>(.*?)</title>", page, re.IGNORECASE | re.DOTALL)
        found = f"the web page {html.unescape(title[1]).strip()!r}" if title else "a web page"
        advice = "open the address in a browser and pass the file with --file"
        raise ZooError(f"{url}: expected a file, found {found}; {advice}")
    part.replace(path)
    _tag(part).unlink(missing_ok=True)


def check_hash(path: Path, expected: str) -> None:
    """Compare a file with a published hash.

    Args:
        path: the file.
        expected: ``md5:<hex>`` or ``sha256:<hex>``; the beginning of the digest is enough.

    Raises:
        ZooError: they differ.
    """
    kind, _, digest = expected.partition(":")
    found = file_hash(path, kind)
    if not digest or not found.startswith(digest):
        raise ZooError(f"{path}: expected {expected}, found {kind}:{found}")


def file_hash(path: Path, kind: str = "sha256") -> str:
    """Return the hexadecimal digest of a file.

    Args:
        path: the file.
        kind: name of the algorithm, as ``hashlib`` knows it.
    """
    state = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            state.update(block)
    return state.hexdigest()


def _from_server(url: str, part: Path, progress: Progress | None, attempts: int, pause: float) -> None:
    failures, reason, most = 0, "", part.stat().st_size if part.exists() else 0
    while failures < attempts:
        try:
            if _fetch(url, part, progress):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the bytes so far are not a part of the file on offer
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in (408, 429):
                raise ZooError(f"{url}: the server answered {error.code} {error.reason}") from error
            reason = f"the server answered {error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        after = part.stat().st_size if part.exists() else 0
        failures = 0 if after > most else failures + 1
        most = max(most, after)
        _log.info("%s: %s; trying again", url, reason)
        time.sleep(pause)
    raise ZooError(f"{url}: {reason}; what came is kept, the same command continues")


def _fetch(url: str, part: Path, progress: Progress | None) -> bool:
    """Append to the partial file what one request brings; return whether the file is complete."""
    done = part.stat().st_size if part.exists() else 0
    tag = json.loads(_tag(part).read_text()) if done and _tag(part).exists() else None
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if done and tag:
        request.add_header("Range", f"bytes={done}-")
        request.add_header("If-Range", tag)
    with urllib.request.urlopen(request, timeout=60) as answer:
        if answer.status == 206:
            span = re.match(r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            if span is None or int(span[1]) != done:
                part.unlink()
                return False
            total: int | None = int(span[2])
        else:
            done = 0
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
        if (total or 0) > _LIMIT:
            raise ZooError(f"{url}: expected at most {_LIMIT >> 30} GB, found {total} bytes")
        with part.open("ab" if done else "wb") as file:
            _tag(part).write_text(
                json.dumps(answer.headers.get("ETag") or answer.headers.get("Last-Modified"))
            )
            try:
                while block := answer.read(_CHUNK):
                    file.write(block)
                    done += len(block)
                    if done > (_LIMIT if total is None else total):
                        raise ZooError(f"{url}: expected {total or _LIMIT} bytes at most, found more")
                    if progress:
                        progress(done, total)
            except http.client.IncompleteRead as error:
                file.write(error.partial)
                return False
    return total is None or done == total


def _drive_address(link: str) -> str:
    """Return the address at which Google Drive sends the file of a sharing link."""
    parts = urlsplit(link)
    named = re.search(r"/d/([\w-]+)", parts.path)
    key = named[1] if named else parse_qs(parts.query).get("id", [""])[0]
    if not key:
        raise ZooError(f"{link}: expected a Google Drive link of one file, found no file id")
    return f"{_DRIVE_DOWNLOAD}?{urlencode({'id': key, 'export': 'download', 'confirm': 't'})}"


def _web_page(part: Path) -> str:
    """Return the text of a file that is a web page, "" for any other file."""
    with part.open("rb") as file:
        head = file.read(1 << 16)
    is_page = re.match(rb"\s*(<!doctype html|<html)", head, re.IGNORECASE)
    return head.decode("utf-8", "replace") if is_page else ""


def _confirmation(source: str, page: str) -> str | None:
    """Return the address behind the button of Google Drive's page about files too large for a virus scan."""
    form = re.search(r'<form id="download-form" action="([^"]+)"', page)
    if form is None:
        return None
    address = urljoin(source, html.unescape(form[1]))
    if urlsplit(address)[:2] != urlsplit(source)[:2]:  # scheme and host
        return None
    fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page)
    return f"{address}?{urlencode([(name, html.unescape(value)) for name, value in fields])}"


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".tag")
