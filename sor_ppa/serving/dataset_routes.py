"""Routes of what is made from documents: agreement, consensus, files of other tools."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query
from fastapi.responses import JSONResponse, Response
from pydantic import ValidationError

from .agreement import agreement
from .errors import RequestRefused
from .exchange import Masks, to_cvat, to_labelstudio
from .imports import import_documents
from .services import Server
from .workspace import check_annotator

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["dataset"])
Format = Literal["coco", "labelstudio", "cvat"]
Method = Literal["borda", "plackett_luce"]


@router.get("/agreement")
def measure_agreement(server: Server, photo: str | None = None) -> dict[str, Any]:
    """Return how far the annotators agree, on one photo or all."""
    workspace = server.workspace
    photos = workspace.photos().values() if photo is None else [workspace.photo(photo)]
    documents = ((p, [d for d in workspace.documents(p) if d.edited]) for p in photos)
    measured = agreement([(p, found) for p, found in documents if found])
    return {**measured, "damaged": workspace.damaged}


@router.post("/consensus")
def write_consensus(server: Server, method: Method = "borda") -> dict[str, Any]:
    """Write annotations/rank_train.json with the consensus of all annotators."""
    return server.dataset.write(method)


@router.get("/export", response_class=JSONResponse)
def export(
    server: Server,
    format: Format = "coco",
    masks: Annotated[Masks, Query(description="polygons: where one line describes an object")] = "rle",
    annotator: Annotated[str | None, Query(description="default: all; for CVAT me")] = None,
) -> Response:
    """Return a file of the consensus (COCO with ranks), or of the documents."""
    content: Any
    if format == "coco":
        content = server.dataset.content()
    else:
        wanted = annotator or ("me" if format == "cvat" else None)
        documents = [
            (photo.name, document)
            for photo in server.workspace.photos().values()
            for document in server.workspace.documents(photo)
            if wanted in (None, document.annotator)
        ]
        content = to_cvat(documents, masks) if format == "cvat" else to_labelstudio(documents, masks)
    name = f'attachment; filename="{format}.json"'
    return JSONResponse(content, headers={"Content-Disposition": name})


@router.post("/import")
def import_file(
    server: Server,
    content: Annotated[Any, Body()],
    format: Format = "coco",
    annotator: str = "me",
    replace: Annotated[bool, Query(description="replace documents that differ")] = False,
) -> dict[str, Any]:
    """Save the documents of a file; those that annotators have already are kept, unless replaced."""
    try:
        result = import_documents(
            server.workspace, format, content, check_annotator(annotator), replace=replace
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestRefused(422, f"{where}: {first['msg'].removeprefix('Value error, ')}") from None
    except ValueError as error:
        raise RequestRefused(422, " ".join(str(error).split())) from None
    server.dataset.changed()
    return result
