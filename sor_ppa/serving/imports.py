"""Taking documents of other tools into a workspace, without overwriting anything unasked."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..atomic import write_json
from ..data.coco import read_coco_file
from ..data.issues import expected
from ..data.masks import compressed, plain_mask
from ..data.record import ImageRecord
from .documents import Document
from .exchange import Found, read_documents
from .workspace import Photo, Workspace

__all__ = ["import_documents"]

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts it before the name of a file


def import_documents(
    workspace: Workspace, kind: str, content: Any, annotator: str, *, replace: bool = False
) -> dict[str, Any]:
    """Save the documents of a parsed file.

    Args:
        workspace: whose photos the file names.
        kind: "coco", "labelstudio" or "cvat".
        content: the file.
        annotator: of documents that name nobody.
        replace: also where the annotator has another document of the photo.

    Returns:
        ``imported`` and ``unchanged`` numbers of documents, ``kept`` names of photos whose documents were
        not replaced, ``unknown`` names of photos that the workspace does not have.

    Raises:
        ValueError: the file is not as expected.
    """
    photos = {photo.name: photo for photo in workspace.photos().values()}

    def find(name: str) -> Photo | None:
        last = re.split(r"[/\\]", name)[-1]
        return photos.get(last) or photos.get(_UPLOAD_PREFIX.sub("", last, count=1))

    def size(name: str) -> tuple[int, int] | None:
        photo = find(name)
        return None if photo is None else (photo.height, photo.width)

    if kind == "coco":
        documents = _from_coco(content, find, annotator, workspace.folder)
    else:
        documents = read_documents(kind, content, size, annotator)
    result: dict[str, Any] = {"imported": 0, "unchanged": 0, "kept": [], "unknown": []}
    for name, document in documents:
        photo = find(name)
        if photo is None or document is None:
            result["unknown"].append(name)
            continue
        current = workspace.document(photo, document.annotator)
        if current.version and current.objects == document.objects:
            result["unchanged"] += 1
        elif current.version and not replace:
            result["kept"].append(name)
        else:
            workspace.save(photo, document.model_copy(update={"version": current.version}))
            result["imported"] += 1
    return result


def _from_coco(
    content: Any, find: Callable[[str], Photo | None], annotator: str, folder: Path
) -> list[Found]:
    """Return the documents of a COCO file with ranks; names of files lead to photos of the workspace only."""
    try:
        photos = {image["id"]: (image["file_name"], find(image["file_name"])) for image in content["images"]}
        annotations = [item for item in content["annotations"] if photos[item["image_id"]][1]]
    except (AttributeError, LookupError, TypeError):
        wanted = "a COCO file with images and annotations"
        raise ValueError(f"coco file: {expected(wanted, content)}") from None
    images = [
        {"id": number, "file_name": photo.path.relative_to(folder).as_posix()}
        for number, (_, photo) in photos.items()
        if photo
    ]
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "import.json"
        write_json(file, {"info": content.get("info"), "images": images, "annotations": annotations})
        records = read_coco_file(file, folder, images=folder, keep_rankless=True)
    found: list[Found] = [(str(name), None) for name, photo in photos.values() if photo is None]
    return found + [
        (Path(record.file_name).name, _document_of_record(record, annotator)) for record in records
    ]


def _document_of_record(record: ImageRecord, annotator: str) -> Document:
    top = max((item.rank for item in record.objects), default=0)
    objects = [
        {
            "id": f"o{number}",
            "mask": plain_mask(compressed(item.segmentation, record.height, record.width)),
            "rank": top - item.rank + 1 if item.rank >= 0 else None,
            "salient": item.rank >= 0,
            "state": "accepted",
        }
        for number, item in enumerate(record.objects, 1)
        if item.segmentation and not item.iscrowd
    ]
    size = {"height": record.height, "width": record.width}
    return Document.model_validate({"annotator": annotator, "edited": True, "objects": objects, **size})
