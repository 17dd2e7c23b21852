"""Fetch one file of one project from the package indexes that pip is set up to use.

`pip download` would run the archive's setup.py, which imports torch; reading the index (PEP 503 and PEP 691)
needs nothing. Followed settings of pip, from its files and from PIP_* variables: index-url, extra-index-url,
find-links, no-index, cert, client-cert, proxy, trusted-host, timeout. Passwords come from the address or
from a netrc file.
"""

import ast
import base64
import json
import netrc
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener, url2pathname

from detectron2_wheel import BuildError

_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_LIMIT = 64 * 2**20  # bytes; longer answers are no index page and no archive of ours
_TRIES = 3


@dataclass(frozen=True)
class Settings:
    """Where to look and how to get there; every field is pip's option of that name."""

    indexes: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    cert: str | None = None
    client_cert: str | None = None
    proxy: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout: float = 15.0


def default_index() -> str:
    """The index that pip asks where nothing is set; pip has no public name for it.

    Raises:
        BuildError: this Python has no pip to ask.
    """
    try:
        from pip._internal.models.index import PyPI
    except ImportError as error:
        raise BuildError(
            "no index-url is set, and there is no pip to take its default from: run python -m ensurepip"
        ) from error
    return str(PyPI.simple_url)


def read_settings(
    environ: Mapping[str, str] = os.environ, pip_config: Callable[[], str] | None = None
) -> Settings:
    """What pip would use.

    Args:
        environ: environment variables.
        pip_config: gives the text of `pip config list`; runs it when None.

    Returns:
        The settings; PyPI alone where nothing is set.
    """
    values: dict[str, str] = {}
    parsed = _parse_pip_config((pip_config or _run_pip_config)())
    for section in ("global", "install", "download"):
        values.update(parsed.get(section, {}))
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            values[name[4:].lower().replace("_", "-")] = value

    indexes = (values.get("index-url") or default_index(), *values.get("extra-index-url", "").split())
    if values.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        indexes = ()
    cert = values.get("cert") or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")
    try:
        timeout = float(values.get("timeout", "") or values.get("default-timeout", "") or 15)
    except ValueError:
        timeout = 15.0
    return Settings(
        indexes=indexes,
        find_links=tuple(values.get("find-links", "").split()),
        cert=cert,
        client_cert=values.get("client-cert"),
        proxy=values.get("proxy"),
        trusted_hosts=tuple(values.get("trusted-host", "").split()),
        timeout=timeout,
    )


def fetch(
    project: str,
    version: str,
    check: Callable[[bytes, str], None],
    settings: Settings,
    pause: float = 1.0,
) -> bytes:
    """The source archive of a project's version.

    Args:
        project: name on the index.
        version: exact version.
        check: called with the bytes and their address; raises BuildError to refuse them.
        settings: see `read_settings`.
        pause: seconds before the second try of a failed request; the third waits twice as long.

    Returns:
        Contents of the first archive that passes the check.

    Raises:
        BuildError: no index can be reached, none has the file, or every copy was refused.
    """
    client = _Client(settings, pause)
    wanted = re.compile(
        re.escape(project).replace(r"\-", "[-_.]") + f"-{re.escape(version)}" + r"\.tar\.gz$", re.I
    )
    refused: list[str] = []
    unreached: list[str] = []
    sources = [*settings.find_links, *(f"{index.rstrip('/')}/{project}/" for index in settings.indexes)]
    for source in sources:
        try:
            links = client.links(source)
        except BuildError as error:
            unreached.append(str(error))
            continue
        for link in links:
            if not wanted.search(unquote(urlsplit(link).path).rsplit("/", 1)[-1]):
                continue
            try:
                data = client.read(link)[0]
                check(data, _shown(link))
                return data
            except BuildError as error:
                refused.append(str(error))
    for reason in (*refused, *unreached):
        raise BuildError(reason)
    where = (
        ", ".join(map(_shown, settings.indexes or settings.find_links)) or "pip's settings (no-index is set)"
    )
    raise BuildError(f"{project} {version}: not found on {where}")


class _Client:
    def __init__(self, settings: Settings, pause: float) -> None:
        self._settings = settings
        self._pause = pause

    def links(self, source: str) -> list[str]:
        """Addresses of the files that a page or folder lists; none where the page does not exist."""
        folder = _local_path(source)
        if folder is not None and folder.is_dir():
            page = folder / "index.html"
            if not page.is_file():
                return [path.resolve().as_uri() for path in sorted(folder.iterdir()) if path.is_file()]
            return _html_links(page.read_text("utf-8", "replace"), folder.resolve().as_uri() + "/")
        if folder is not None and not folder.exists():
            return []
        try:
            data, address, content_type = self.read(source if folder is None else folder.resolve().as_uri())
        except _NotThere:
            return []
        text = data.decode("utf-8", "replace")
        if "json" in content_type:
            try:
                return [urljoin(address, file["url"]) for file in json.loads(text)["files"]]
            except (ValueError, KeyError, TypeError) as error:
                raise BuildError(f"{_shown(address)}: not a package index page ({error})") from error
        return _html_links(text, address)

    def read(self, url: str) -> tuple[bytes, str, str]:
        """Contents, final address and content type."""
        path = _local_path(url)
        if path is not None:
            try:
                return path.read_bytes(), url, "text/html"
            except OSError as error:
                raise BuildError(f"cannot read {path}: {error.strerror or error}") from error
        reason = ""
        for attempt in range(_TRIES):
            if attempt:
                time.sleep(self._pause * attempt)
            try:
                return self._request(url)
            except HTTPError as error:
                if error.code in (404, 410):
                    raise _NotThere(f"{_shown(url)}: HTTP {error.code}") from error
                reason = f"HTTP {error.code} {error.reason}"
                if error.code < 500 and error.code != 429:
                    break
            except URLError as error:
                reason = str(error.reason)
                if isinstance(error.reason, ssl.SSLCertVerificationError):
                    reason = (
                        f"{error.reason.verify_message}; set pip's `cert` option to your certificate bundle"
                    )
                    break
            except (OSError, HTTPException) as error:
                reason = str(error) or type(error).__name__
        raise BuildError(
            f"cannot read {_shown(url)}: {reason} "
            "(check the network, or fetch the file yourself and give it by --sdist)"
        )

    def _request(self, url: str) -> tuple[bytes, str, str]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
        request = Request(plain, headers={"Accept": _ACCEPT, "User-Agent": "sor-ppa-install-detectron2"})
        login = _login(parts.username, parts.password, host)
        if login:
            token = base64.b64encode(":".join(login).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {token}")
        trusted = {host, f"{host}:{parts.port}"} & set(self._settings.trusted_hosts)
        with self._opener(bool(trusted)).open(request, timeout=self._settings.timeout) as answer:
            data = answer.read(_LIMIT + 1)
            if len(data) > _LIMIT:
                raise BuildError(f"{_shown(url)}: more than {_LIMIT} bytes, expected a small file")
            return data, answer.geturl(), answer.headers.get("Content-Type", "")

    def _opener(self, trusted: bool) -> OpenerDirector:
        settings = self._settings
        context = ssl.create_default_context()
        try:
            if settings.cert:
                folder = os.path.isdir(settings.cert)
                context.load_verify_locations(
                    None if folder else settings.cert, settings.cert if folder else None
                )
            else:
                _add_pip_certificates(context)
            if settings.client_cert:
                context.load_cert_chain(settings.client_cert)
        except OSError as error:
            raise BuildError(f"cannot load the certificates that pip is set to use: {error}") from error
        if trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        proxies = {"http": settings.proxy, "https": settings.proxy} if settings.proxy else None
        return build_opener(HTTPSHandler(context=context), ProxyHandler(proxies))


class _NotThere(BuildError):
    """The address answers that it has nothing."""


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base: str | None = None
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if href and tag == "a":
            self.links.append(href)
        elif href and tag == "base" and self.base is None:
            self.base = href


def _html_links(text: str, address: str) -> list[str]:
    page = _Page()
    page.feed(text)
    base = urljoin(address, page.base or "")
    return [urljoin(base, link) for link in page.links]


def _local_path(url: str) -> Path | None:
    """Path of a file: address or of a plain path, else None."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(url2pathname(urldefrag(parts.path)[0]))
    return None if parts.scheme in ("http", "https") else Path(url).expanduser()


def _login(username: str | None, password: str | None, host: str) -> tuple[str, str] | None:
    if username is not None:
        return unquote(username), unquote(password or "")
    try:
        entry = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return (entry[0], entry[2] or "") if entry else None


def _add_pip_certificates(context: ssl.SSLContext) -> None:
    """Trust what pip trusts, where the system has no certificates of its own."""
    try:
        from pip._vendor import certifi

        context.load_verify_locations(certifi.where())
    except (ImportError, OSError):
        pass


def _shown(url: str) -> str:
    """The address without login and hash."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def _run_pip_config() -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _parse_pip_config(text: str) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        match = re.match(r"^([^.=]+)\.([^=]+)=(.*)$", line)
        if not match or match[1] == ":env:":
            continue
        try:
            value = ast.literal_eval(match[3])
        except (ValueError, SyntaxError):
            continue
        sections.setdefault(match[1], {})[match[2].replace("_", "-")] = str(value)
    return sections
