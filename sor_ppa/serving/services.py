"""What the routes work with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request

from .batching import BatchingRanker
from .dataset import DatasetWriter
from .errors import RequestRefused
from .limits import Limits
from .metrics import RequestCounts
from .models import ModelList
from .workspace import Workspace

__all__ = ["PictureBody", "Server", "Services", "picture_body"]


@dataclass
class Services:
    """The parts of one running server."""

    workspace: Workspace
    models: ModelList
    ranker: BatchingRanker
    dataset: DatasetWriter
    limits: Limits
    counts: RequestCounts = field(default_factory=RequestCounts)


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


async def _picture_body(request: Request) -> bytes:
    """Return the body of a request with the type of a picture, which pages of other sites cannot send."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith("image/") and kind != "application/octet-stream":
        raise RequestRefused(
            415, f"Content-Type: expected image/* or application/octet-stream, found {kind!r}"
        )
    body = await request.body()
    if not body:
        raise RequestRefused(400, "body: expected a picture, found nothing")
    return body


Server = Annotated[Services, Depends(_services)]
PictureBody = Annotated[bytes, Depends(_picture_body)]
picture_body = {
    "requestBody": {
        "required": True,
        "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}},
    }
}
