"""Downloading a file: resumed after a cut connection, checked for length, hash and kind."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import logging
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from .catalog import ZooError

__all__ = ["check_hash", "download", "file_hash"]

_log = logging.getLogger(__name__)
_CHUNK = 1 << 20  # bytes
_LIMIT = 20 << 30  # bytes; no published file is near it
_DRIVE = ("drive.google.com", "docs.google.com")

Progress = Callable[[int, int | None], None]


def download(
    url: str, path: Path, *, progress: Progress | None = None, attempts: int = 5, pause: float = 1.0
) -> None:
    """Download a file, continuing an earlier attempt.

    The bytes so far are kept in ``<path>.part``. They are continued only if the server still offers the same
    file (``If-Range``).

    Args:
        url: http or https; Google Drive links need the package gdown.
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
    try:
        if urlsplit(url).hostname in _DRIVE:
            _from_drive(url, part)
        else:
            _from_server(url, part, progress, attempts, pause)
    except OSError as error:
        raise ZooError(f"{part}: {'disk full' if error.errno == errno.ENOSPC else error}") from error
    with part.open("rb") as file:
        head = file.read(512)
    if re.match(rb"\s*(<!doctype html|<html)", head, re.IGNORECASE):
        part.unlink()
        raise ZooError(f"{url}: expected a file, found a web page (a quota, a login or a moved file)")
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


def _from_drive(url: str, part: Path) -> None:
    try:
        import gdown
    except ImportError as error:
        raise ZooError(
            f"{url}: expected the package gdown for Google Drive; run: pip install gdown"
        ) from error
    try:
        gdown.download(url, str(part), resume=True, quiet=False)
    except Exception as error:
        # gdown raises its own errors, those of requests, and OSError
        raise ZooError(f"{url}: {' '.join(str(error).split()) or type(error).__name__}") from error
    if not part.is_file():
        raise ZooError(f"{url}: Google Drive sent no file; open the address in a browser to see why")


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".tag")
