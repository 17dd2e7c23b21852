"""The application: routes behind protection, errors in one form, the dataset kept up to date."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from .. import __version__
from ..atomic import DiskFullError
from ..cpu_inference import release_free_memory
from . import dataset_routes, photo_routes, ranking_routes
from .api_page import api_page
from .errors import RequestRefused
from .protection import Protection, refusal
from .services import Services

__all__ = ["create_app"]

_log = logging.getLogger(__name__)
_PAGE = Path(__file__).with_name("page")
_UPDATE_SECONDS = 1.0  # between two looks at whether the dataset changed


def create_app(services: Services, token: str | None = None) -> FastAPI:
    """Return the ASGI application.

    Args:
        services: what the routes work with; closed when the application ends.
        token: that every request needs; None on the loopback address.
    """
    app = FastAPI(
        title="sor-ppa serve", version=__version__, lifespan=_lifespan, docs_url=None, redoc_url=None
    )
    app.state.services = services
    for routes in (ranking_routes, photo_routes, dataset_routes):
        app.include_router(routes.router)
    app.add_api_route("/", _index, include_in_schema=False)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.mount("/page", StaticFiles(directory=_PAGE, check_dir=False))
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    app.add_middleware(Protection, limits=services.limits, token=token, counts=services.counts)
    return app


async def _index() -> Response:
    return FileResponse(_PAGE / "index.html", media_type="text/html")


async def _docs(request: Request) -> Response:
    return HTMLResponse(api_page(request.app.openapi()))


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    anyio.to_thread.current_default_thread_limiter().total_tokens = services.limits.threads
    task = asyncio.create_task(_keep_dataset(services))
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await run_in_threadpool(services.ranker.close)
    await run_in_threadpool(services.dataset.update)
    services.workspace.close()


async def _keep_dataset(services: Services) -> None:
    while True:
        start = time.monotonic()
        try:
            await run_in_threadpool(services.dataset.update)
            await run_in_threadpool(release_free_memory)
        except OSError as error:
            _log.error("%s: %s", services.dataset.path, error)
        except Exception:  # the next change tries again
            _log.exception("%s: not written", services.dataset.path)
        await asyncio.sleep(max(_UPDATE_SECONDS, 10 * (time.monotonic() - start)))  # a tenth of one core


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestRefused)
    return refusal(error)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return JSONResponse({"error": f"{where}: {first['msg'].removeprefix('Value error, ')}"}, 422)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)


async def _disk_full(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 507)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": "expected an answer, found a fault of the server; its log says more"}, 500)


_HANDLERS: dict[type[Exception], Callable[[Request, Exception], Awaitable[Response]]] = {
    RequestRefused: _refused,
    RequestValidationError: _invalid,
    HTTPException: _http_error,
    DiskFullError: _disk_full,
    Exception: _failed,
}
