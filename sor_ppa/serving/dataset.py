"""The dataset of a workspace, made of what people saved."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from ..atomic import write_json
from ..data.export import coco_content
from ..data.record import ImageRecord
from .consensus import consensus_objects
from .documents import Document
from .workspace import Photo, Workspace

__all__ = ["DatasetWriter", "edited_documents"]


def edited_documents(workspace: Workspace) -> list[tuple[Photo, list[Document]]]:
    """Return the photos that people worked on, each with the documents that they saved."""
    found = [
        (photo, [document for document in workspace.documents(photo) if document.edited])
        for photo in workspace.photos().values()
    ]
    return [(photo, documents) for photo, documents in found if documents]


class DatasetWriter:
    """Keeps ``annotations/rank_train.json`` up to date.

    Only documents that a person saved count; what a model proposed and nobody looked at is no label.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._changed = True
        self._known: dict[str, tuple[Any, ImageRecord]] = {}
        self.method = "borda"

    def changed(self) -> None:
        """Note that a document was saved."""
        self._changed = True

    def update(self) -> None:
        """Write the file if a document was saved since the last time."""
        if self._changed:
            self.write(self.method)

    def write(self, method: str) -> dict[str, Any]:
        """Write the file, and return the numbers of its photos and objects.

        Args:
            method: a key of ``consensus.METHODS``; kept for later updates.
        """
        with self._lock:
            self._changed, self.method = False, method
            content = self.content()
            path = self._workspace.folder / "annotations" / "rank_train.json"
            path.parent.mkdir(exist_ok=True)
            write_json(path, content)
        return {"photos": len(content["images"]), "objects": len(content["annotations"]), "method": method}

    def content(self) -> dict[str, Any]:
        """Return COCO with ranks: the photos with a ranked object, with the consensus of their documents."""
        records = []
        for photo, documents in edited_documents(self._workspace):
            state = (self.method, [(document.annotator, document.version) for document in documents])
            if self._known.get(photo.id, (None,))[0] != state:
                objects = consensus_objects(documents, self.method)
                record = ImageRecord(str(photo.path), photo.height, photo.width, objects, 0)
                self._known[photo.id] = (state, record)
            record = self._known[photo.id][1]
            if any(item.rank >= 0 for item in record.objects):
                records.append(record)
        return coco_content(
            [
                (ImageRecord(r.file_name, r.height, r.width, r.objects, number), self._name(r))
                for number, r in enumerate(records, 1)
            ]
        )

    def _name(self, record: ImageRecord) -> str:
        """Return the path of a photo in the workspace."""
        return Path(record.file_name).relative_to(self._workspace.folder).as_posix()
