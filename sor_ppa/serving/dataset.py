"""The dataset of a workspace, made of what people saved."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any

from ..atomic import write_json
from ..data.export import coco_content
from ..data.record import ImageRecord
from .consensus import consensus_objects
from .workspace import Workspace

__all__ = ["DatasetWriter"]

_WRITTEN_BY = {"contributor": "sor-ppa serve"}


class DatasetWriter:
    """Keeps ``annotations/rank_train.json`` up to date.

    Only documents that a person saved count. What a model proposed and nobody looked at is no label.

    Raises:
        ValueError: there is such a file that a server did not write.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Any, ImageRecord]] = {}
        self.method = "borda"
        self.path = workspace.folder / "annotations" / "rank_train.json"
        if self.path.is_file() and not _is_own(self.path.read_bytes()):
            found = "found another file; serve another folder and import this one there"
            raise ValueError(f"{self.path}: expected a dataset that sor-ppa serve wrote, {found}")
        self._changed = bool(workspace.annotators())

    def changed(self) -> None:
        """Note that a document was saved."""
        self._changed = True

    def update(self) -> None:
        """Write the file if a document was saved since the last time."""
        if self._changed:
            self.write(self.method)

    def write(self, method: str) -> dict[str, Any]:
        """Write the file, and return the numbers of its photos and objects, and the documents left out.

        Args:
            method: a key of ``consensus.METHODS``; kept for later updates.
        """
        with self._lock:
            self._changed, self.method = False, method
            try:
                content = self.content()
                self.path.parent.mkdir(exist_ok=True)
                write_json(self.path, content)
            except OSError:
                self._changed = True  # the next update tries again
                raise
        numbers = {"photos": len(content["images"]), "objects": len(content["annotations"])}
        return {**numbers, "method": method, "damaged": self._workspace.damaged}

    def content(self) -> dict[str, Any]:
        """Return COCO with ranks: the photos with a ranked object, with the consensus of their documents."""
        images: list[tuple[ImageRecord, str]] = []
        for photo in self._workspace.photos().values():
            state = (self.method, self._workspace.revisions(photo))
            if self._known.get(photo.id, (None,))[0] != state:
                documents = [document for document in self._workspace.documents(photo) if document.edited]
                objects = consensus_objects(documents, self.method) if documents else ()
                record = ImageRecord(str(photo.path), photo.height, photo.width, objects, 0)
                self._known[photo.id] = (state, record)
            record = self._known[photo.id][1]
            if any(item.rank >= 0 for item in record.objects):
                name = photo.path.relative_to(self._workspace.folder).as_posix()
                images.append((replace(record, image_id=len(images) + 1), name))
        content = coco_content(images)
        return {**content, "info": {**content["info"], **_WRITTEN_BY}}


def _is_own(content: bytes) -> bool:
    try:
        info = json.loads(content).get("info", {})
        return _WRITTEN_BY.items() <= info.items()
    except (ValueError, AttributeError, RecursionError):
        return False
