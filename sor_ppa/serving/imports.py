"""Taking documents of other tools into a workspace, without overwriting anything unasked."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_json
from ..data.coco import read_coco_file
from ..data.issues import expected
from ..data.masks import compressed, plain_mask
from .documents import Document
from .exchange import Named, from_cvat, from_labelstudio
from .workspace import Photo, Workspace

__all__ = ["READERS", "import_documents"]

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")  # Label Studio puts it before the name of a file


def import_documents(
    workspace: Workspace, kind: str, content: Any, annotator: str, *, replace: bool = False
) -> dict[str, Any]:
    """Save the documents of a parsed file.

    Args:
        workspace: whose photos the file names.
        kind: a key of ``READERS``.
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

    result: dict[str, Any] = {"imported": 0, "unchanged": 0, "kept": [], "unknown": []}
    for name, document in READERS[kind](content, find, annotator, workspace.folder):
        photo = find(name)
        if photo is None:
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


_Find = Callable[[str], Photo | None]


def _sizes(find: _Find) -> Callable[[str], tuple[int, int] | None]:
    def size(name: str) -> tuple[int, int] | None:
        photo = find(name)
        return None if photo is None else (photo.height, photo.width)

    return size


def _labelstudio(content: Any, find: _Find, annotator: str, folder: Path) -> Sequence[Named]:
    return from_labelstudio(content, _sizes(find), annotator)


def _cvat(content: Any, find: _Find, annotator: str, folder: Path) -> Sequence[Named]:
    return from_cvat(content, _sizes(find), annotator)


def _coco(content: Any, find: _Find, annotator: str, folder: Path) -> Sequence[Named]:
    """Return the documents of a COCO file with ranks; names of files lead to photos of the workspace only."""
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise ValueError(expected("a COCO file with images and annotations", content))
    known, unknown = [], []
    for image in content["images"]:
        name = str(image.get("file_name") if isinstance(image, dict) else image)
        photo = find(name)
        if photo is None:
            unknown.append((name, Document(annotator=annotator, width=1, height=1)))
        else:
            known.append({**image, "file_name": photo.path.relative_to(folder).as_posix()})
    ids = [image.get("id") for image in known]
    annotations = content.get("annotations")
    kept = (
        [a for a in annotations if a.get("image_id") in ids] if isinstance(annotations, list) else annotations
    )
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "import.json"
        write_json(file, {**content, "images": known, "annotations": kept})
        records = read_coco_file(file, folder, images=folder, keep_rankless=True)
    documents = []
    for record in records:
        objects = []
        top = max((item.rank for item in record.objects), default=0)
        for number, item in enumerate(record.objects, 1):
            if item.segmentation is None or item.iscrowd:
                continue
            mask = plain_mask(compressed(item.segmentation, record.height, record.width))
            rank = top - item.rank + 1 if item.rank >= 0 else None
            objects.append(
                {
                    "id": f"o{number}",
                    "mask": mask,
                    "rank": rank,
                    "salient": rank is not None,
                    "state": "accepted",
                }
            )
        fields = {"annotator": annotator, "height": record.height, "width": record.width, "edited": True}
        document = Document.model_validate({**fields, "objects": objects})
        documents.append((Path(record.file_name).name, document))
    return documents + unknown


READERS: dict[str, Callable[[Any, _Find, str, Path], Sequence[Named]]] = {
    "coco": _coco,
    "labelstudio": _labelstudio,
    "cvat": _cvat,
}
