"""Running the server on a socket."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from .app import create_app
from .batching import BatchingRanker
from .dataset import DatasetWriter
from .limits import Limits
from .models import ModelList
from .protection import connection_class, is_loopback
from .services import Services
from .workspace import Workspace

__all__ = ["serve"]


def serve(
    folder: Path,
    models: ModelList,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    ready: Callable[[str], object] = str,
) -> None:
    """Serve a workspace until the process is interrupted.

    Args:
        folder: of the workspace.
        models: the rankers to offer.
        host, port: to listen on; port 0 takes a free one.
        token: that clients must know; needed where ``host`` is not the loopback address.
        limits: see :class:`Limits`.
        ready: is called with the address of the page when connections are accepted.

    Raises:
        ValueError: no token, or another server uses the folder.
        OSError: the port is taken.
    """
    if not token and not is_loopback(host):
        raise ValueError(f"--host {host}: expected a loopback address, or --token as well, found neither")
    limits = limits or Limits()
    workspace = Workspace(folder, limits)
    with socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as listening:
        services = Services(
            workspace, models, BatchingRanker(models.load, limits), DatasetWriter(workspace), limits
        )
        config = uvicorn.Config(
            create_app(services, token or None),
            http=connection_class(limits.header_seconds),
            ws="none",
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=5,
        )
        port = listening.getsockname()[1]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}/" + (f"?token={token}" if token else ""))
        uvicorn.Server(config).run(sockets=[listening])
