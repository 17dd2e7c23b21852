"""Routes of the page: photos, documents and the editing of masks."""

from __future__ import annotations

import time
from functools import partial
from hashlib import sha1
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import APIRouter, Query, Response
from fastapi.responses import FileResponse
from numpy.typing import NDArray
from PIL import Image, ImageOps
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool

from ..crop import choose_crop, parse_aspect
from ..data.masks import encode_mask
from ..visualization import draw_ranked
from ..visualization.files import to_rgb
from ..visualization.rank_maps import paint
from .documents import Document, RunLengths, drawn_mask, proposals, shown_mask
from .errors import RequestRefused
from .pictures import FORMATS, encode_picture
from .segmenting import Click, segment_by_clicks
from .services import PictureBody, Server, picture_body
from .workspace import Photo, check_annotator

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["photos"])
_THUMBNAIL = 256  # pixels of the long side
_SHOWN_BY_BROWSERS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "GIF", "BMP")
_KEPT = {"Cache-Control": "private, max-age=86400"}
Annotator = Annotated[str, Query(description="who ranks")]


class MaskEdit(BaseModel):
    """Clicks on an object; ``mask`` is the object before them, ``box`` lies around a new one."""

    points: list[Click] = Field([], max_length=200)
    mask: RunLengths | None = None
    box: tuple[float, float, float, float] | None = None


class Polygons(BaseModel):
    """Closed lines, ``[x1, y1, x2, y2, ...]``; a point in an odd number of them is in the mask."""

    polygons: list[list[float]]


@router.get("/session")
async def session(server: Server) -> dict[str, Any]:
    """Return what the page needs first."""
    limits = {"max_bytes": server.limits.body_bytes, "max_pixels": server.limits.pixels}
    folder = server.workspace.folder.resolve()
    names = {"folder": folder.name, "workspace": sha1(str(folder).encode()).hexdigest()}
    return {"annotator": None, "model": server.models.default, "limits": limits, **names}


@router.get("/photos")
def list_photos(server: Server, annotator: Annotator = "me") -> list[dict[str, Any]]:
    """List the photos, and how far an annotator is with each."""
    return [_listed_photo(server, photo, annotator) for photo in server.workspace.photos().values()]


def _listed_photo(server: Server, photo: Photo, annotator: str) -> dict[str, Any]:
    revisions = server.workspace.revisions(photo)
    progress = server.workspace.progress(photo, annotator, revisions.get(annotator))
    size = {"width": photo.width, "height": photo.height}
    return {"id": photo.id, "name": photo.name, **size, **progress, "annotators": list(revisions)}


@router.post("/photos", status_code=201, openapi_extra=picture_body)
def add_photo(
    server: Server, body: PictureBody, response: Response, name: str = "", annotator: Annotator = "me"
) -> dict[str, Any]:
    """Keep the photo in the body; 200 if it is there already."""
    photo, new = server.workspace.add_photo(name, body)
    response.status_code = 201 if new else 200
    return _listed_photo(server, photo, annotator)


@router.get("/photos/{photo}/image", response_class=Response)
def image(server: Server, photo: str) -> Response:
    """Return the photo; as JPEG if browsers cannot show its format."""
    found = server.workspace.photo(photo)
    if found.format in _SHOWN_BY_BROWSERS:
        return FileResponse(found.path, media_type=Image.MIME[found.format], headers=_KEPT)
    return _jpeg(server.workspace.pixels(found), _KEPT)


@router.get("/photos/{photo}/thumbnail", response_class=Response)
def thumbnail(server: Server, photo: str) -> Response:
    """Return a JPEG of at most 256 pixels a side."""
    found = server.workspace.photo(photo)
    try:
        with Image.open(found.path, formats=FORMATS) as picture:
            picture.draft("RGB", (2 * _THUMBNAIL, 2 * _THUMBNAIL))
            small = to_rgb(ImageOps.exif_transpose(picture))
    except Exception as error:  # decoders raise many types for damaged files
        raise RequestRefused(422, f"{found.name}: expected a picture, found a broken file") from error
    scale = min(1.0, _THUMBNAIL / max(small.shape[:2]))
    size = max(round(small.shape[1] * scale), 1), max(round(small.shape[0] * scale), 1)
    resized = np.asarray(cv2.resize(small[:, :, ::-1], size, interpolation=cv2.INTER_AREA), np.uint8)
    return _jpeg(resized, _KEPT)


@router.get("/photos/{photo}/annotation")
def annotation(server: Server, photo: str, annotator: Annotator = "me") -> dict[str, Any]:
    """Return the document of an annotator; version 0 without objects if there is none."""
    return server.workspace.document(server.workspace.photo(photo), annotator).shown()


@router.put("/photos/{photo}/annotation")
def save_annotation(
    server: Server, photo: str, document: Document, annotator: Annotator = "me"
) -> dict[str, Any]:
    """Save a document that was read at its ``version``; 409 and the current one if it was changed since."""
    if len(document.objects) > server.limits.objects:
        found = f"expected at most {server.limits.objects}, found {len(document.objects)}"
        raise RequestRefused(422, f"objects: {found}")
    document.annotator, document.edited = check_annotator(annotator), True
    saved = server.workspace.save(server.workspace.photo(photo), document)
    server.dataset.changed()
    return saved.shown()


@router.post("/photos/{photo}/rank")
async def rank_photo(
    server: Server, photo: str, model: str | None = None, annotator: Annotator = "me"
) -> dict[str, Any]:
    """Save what a model proposes; if the annotator has a document, return ``proposal`` alone."""
    found = await run_in_threadpool(server.workspace.photo, photo)
    name = await run_in_threadpool(server.models.check, model)
    make = partial(
        proposals,
        photo=found.id,
        annotator=check_annotator(annotator),
        model=name,
        most=server.limits.objects,
    )
    read = partial(server.workspace.pixels, found)
    document = await server.ranker.rank(name, read, found.height * found.width, make)
    return await run_in_threadpool(_keep_proposals, server, found, document)


def _keep_proposals(server: Server, photo: Photo, document: Document) -> dict[str, Any]:
    try:
        return server.workspace.save(photo, document).shown()
    except RequestRefused as error:
        if error.status != 409:
            raise
        return {"proposal": document.shown()}


@router.post("/photos/{photo}/segment")
def segment_object(server: Server, photo: str, edit: MaskEdit) -> dict[str, Any]:
    """Return the mask of an object after clicks."""
    start = time.perf_counter()
    found = server.workspace.photo(photo)
    if edit.mask and edit.mask.size != (found.height, found.width):
        raise RequestRefused(
            422, f"mask.size: expected {[found.height, found.width]}, found {[*edit.mask.size]}"
        )
    if edit.mask is None and edit.box is None and not any(click.positive for click in edit.points):
        raise RequestRefused(422, "points: expected a positive one, a mask or a box, found none")
    before = edit.mask.pixels() if edit.mask else None
    mask = segment_by_clicks(server.workspace.pixels(found), edit.points, before, edit.box)
    return {**_mask_answer(mask), "milliseconds": round(1000 * (time.perf_counter() - start))}


@router.post("/photos/{photo}/polygon")
def fill_polygon(server: Server, photo: str, lines: Polygons) -> dict[str, Any]:
    """Return the mask of polygons."""
    count = len(lines.polygons) + sum(map(len, lines.polygons))
    if count > server.limits.points:
        raise RequestRefused(422, f"polygons: expected at most {server.limits.points} numbers, found {count}")
    found = server.workspace.photo(photo)
    return _mask_answer(drawn_mask(lines.polygons, found.height, found.width))


def _mask_answer(mask: NDArray[np.bool_]) -> dict[str, Any]:
    if not mask.any():
        raise RequestRefused(422, "mask: expected pixels, found none")
    return shown_mask(encode_mask(mask))


@router.get("/photos/{photo}/saliency", response_class=Response)
def saliency(server: Server, photo: str, annotator: Annotator = "me") -> Response:
    """Return the ranked objects as a gray map (PNG)."""
    found = server.workspace.photo(photo)
    ranks, masks = _ranked_masks(server.workspace.document(found, annotator))
    return Response(encode_picture(".png", paint(masks, -ranks, "assr")), media_type="image/png")


@router.get("/photos/{photo}/picture", response_class=Response)
def picture(server: Server, photo: str, annotator: Annotator = "me") -> Response:
    """Return the photo with outlines and rank badges (JPEG)."""
    found = server.workspace.photo(photo)
    ranks, masks = _ranked_masks(server.workspace.document(found, annotator))
    return _jpeg(draw_ranked(server.workspace.pixels(found)[:, :, ::-1], masks, ranks)[:, :, ::-1])


@router.get("/photos/{photo}/crop")
def crop(server: Server, photo: str, aspect: str, annotator: Annotator = "me") -> dict[str, Any]:
    """Return the window of an aspect that keeps the most salient objects."""
    found = server.workspace.photo(photo)
    document = server.workspace.document(found, annotator)
    _, masks = _ranked_masks(document)
    try:
        chosen = choose_crop(masks, parse_aspect(aspect))
    except ValueError as error:
        raise RequestRefused(422, str(error)) from None
    ids = [item.id for item in document.ranked]
    lost = [ids[i] for i in chosen.lost]
    return {"box": list(chosen.box), "kept": [i for i in ids if i not in lost], "lost": lost}


def _ranked_masks(document: Document) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ranks (N,) and masks (N, H, W) of the ranked objects of a document, most salient first."""
    objects = document.ranked
    masks = [item.mask.pixels() for item in objects]
    stack = np.array(masks, bool).reshape(-1, document.height, document.width)
    return np.array([o.rank for o in objects], np.int64), stack


def _jpeg(bgr: NDArray[np.uint8], headers: dict[str, str] | None = None) -> Response:
    return Response(encode_picture(".jpg", bgr), media_type="image/jpeg", headers=headers)
