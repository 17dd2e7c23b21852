"""Routes for programs: rank a picture, list models, health and metrics."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool

from .. import __version__
from ..profiling import process_memory
from ..results import RankedImage
from .pictures import check_picture, decode_picture, encode_picture
from .services import PictureBody, Server, picture_body

__all__ = ["router"]

router = APIRouter(tags=["ranking"])
Format = Literal["json", "picture", "map"]


@router.get("/health")
async def health(server: Server) -> dict[str, str]:
    """Say that the server answers, with which model and version."""
    return {"status": "ok", "model": server.models.default, "version": __version__}


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(server: Server) -> str:
    """Return counts as Prometheus text."""
    values = {
        "pictures_total": server.ranker.pictures,
        "batches_total": server.ranker.batches,
        "waiting_pictures": server.ranker.waiting,
        "resident_bytes": process_memory("VmRSS"),
    }
    return server.counts.text(values)


@router.get("/models")
def models(server: Server) -> list[dict[str, Any]]:
    """List the models, and which are installed and loaded."""
    return server.models.listed(server.ranker.loaded)


@router.post("/rank", openapi_extra=picture_body)
async def rank(
    server: Server,
    body: PictureBody,
    model: Annotated[str | None, Query(description="a name of /models")] = None,
    format: Annotated[Format, Query(description="JSON, a drawing (JPEG), or a gray map (PNG)")] = "json",
    confidence: Annotated[float, Query(ge=0, le=1, description="leave out objects below it")] = 0.0,
) -> Response:
    """Rank the objects of the picture in the body."""
    name = await run_in_threadpool(server.models.check, model)
    _, height, width = await run_in_threadpool(check_picture, body, server.limits.pixels)
    answer = partial(_answer, form=format, model=name, confidence=confidence)
    return await server.ranker.rank(name, partial(decode_picture, body), height * width, answer)


def _answer(result: RankedImage, form: Format, model: str, confidence: float) -> Response:
    result = result.confident(confidence)
    if form == "picture":
        return Response(encode_picture(".jpg", result.draw()[:, :, ::-1]), media_type="image/jpeg")
    if form == "map":
        return Response(encode_picture(".png", result.saliency_map()), media_type="image/png")
    return JSONResponse({**result.to_json(), "model": model})
