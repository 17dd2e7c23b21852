"""The folder of ``sor-ppa serve``: photos, the documents of every annotator, and the dataset made of them.

::

    images/                         photos; those beside this folder are shown as well
    rankings/ANNOTATOR/PHOTO.json   one document for each annotator and photo
    annotations/rank_train.json     COCO with ranks, made from the documents

Every file is written atomically, so a killed server loses nothing that it had confirmed.
"""

from __future__ import annotations

import fcntl
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha1
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ..atomic import atomic_write, write_json
from ..visualization.files import read_image
from .documents import Document
from .errors import RequestRefused
from .limits import Limits
from .pictures import SUFFIXES, check_picture, decode_picture

__all__ = ["Photo", "Workspace", "check_annotator"]

_log = logging.getLogger(__name__)
_PLAIN_NAME = re.compile(r"\w[\w.-]*", re.ASCII)
_ANNOTATOR = re.compile(r"\w([\w .@+-]{0,58}\w)?")


@dataclass(frozen=True)
class Photo:
    """A photo of the workspace; sizes in pixels after EXIF rotation."""

    id: str
    path: Path
    format: str
    height: int
    width: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.path.name


def check_annotator(name: str) -> str:
    """Return the name of an annotator, if it can be the name of a folder; else raise RequestRefused (422)."""
    if not _ANNOTATOR.fullmatch(name):
        raise RequestRefused(
            422,
            f"annotator: expected up to 60 letters, digits, and - . + @ between them, found {name[:60]!r}",
        )
    return name


class Workspace:
    """The photos and documents of a folder. Threads may share it; processes may not.

    Args:
        folder: created if it does not exist.
        limits: of pictures.

    Raises:
        ValueError: another server uses the folder.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits = folder, limits
        self.images, self.rankings = folder / "images", folder / "rankings"
        for path in (self.images, self.rankings):
            path.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._photos: dict[str, Photo] = {}
        self._known: dict[tuple[Path, int, int], Photo | None] = {}
        self._progress: dict[tuple[str, str], tuple[tuple[int, int], dict[str, Any]]] = {}
        self._damaged: dict[tuple[str, str], str] = {}
        self._file = (folder / ".lock").open("w")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"{folder}: expected a folder without a server, found one that uses it"
            ) from None
        self._decoded = lru_cache(maxsize=2)(_decoded_photo)

    def close(self) -> None:
        """Let other servers use the folder."""
        self._file.close()

    def photos(self) -> dict[str, Photo]:
        """Return the photos by id, in the order of their names; files that are no pictures are left out."""
        suffixes = {suffix for group in SUFFIXES.values() for suffix in group}
        files: dict[str, Path] = {}
        for folder in (self.images, self.folder):
            for path in folder.iterdir():
                if path.suffix.lower() in suffixes and path.is_file():
                    files.setdefault(path.name, path)
        found = (self._photo_of_file(files[name]) for name in sorted(files))
        self._photos = {photo.id: photo for photo in found if photo is not None}
        return self._photos

    def _photo_of_file(self, path: Path) -> Photo | None:
        """Return the photo of a file; None if it is not one or too large. Headers are read once."""
        state = path.stat()
        key = (path, state.st_mtime_ns, state.st_size)
        if key not in self._known:
            try:
                self._known[key] = Photo(_photo_id(path.name), path, *check_picture(path, self.limits.pixels))
            except RequestRefused:
                self._known[key] = None
        return self._known[key]

    def photo(self, identifier: str) -> Photo:
        """Return a photo; raise RequestRefused (404) if there is none of this id."""
        photo = self._photos.get(identifier)
        if photo is None or not photo.path.is_file():
            photo = self.photos().get(identifier)
        if photo is None:
            raise RequestRefused(404, f"photo: expected one of /api/photos, found {identifier[:60]!r}")
        return photo

    def pixels(self, photo: Photo) -> NDArray[np.uint8]:
        """Return the decoded photo (H, W, 3) uint8 BGR; the last ones are kept. It must not be changed."""
        try:
            return self._decoded(photo, photo.path.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise RequestRefused(422, f"{photo.name}: expected a picture, found a broken file") from error

    def add_photo(self, name: str, data: bytes) -> tuple[Photo, bool]:
        """Keep a photo that was sent.

        Args:
            name: wanted for its file; without a usable one, it is called ``photo``.
            data: the file.

        Returns:
            The photo, and whether it is new; the same bytes are kept once.

        Raises:
            RequestRefused: it is no picture, too large or damaged.
        """
        form, height, width = check_picture(data, self.limits.pixels)
        decode_picture(data)
        stem = re.sub(r"[^\w.-]+", "_", Path(name.replace("\\", "/")).stem).strip("._-")[:80] or "photo"
        suffix = SUFFIXES.get(form, (".jpg",))[0]  # MPO is a kind of JPEG
        with self._lock:
            for photo in self.photos().values():
                if photo.path.stat().st_size == len(data) and photo.path.read_bytes() == data:
                    return photo, False
            names = (f"{stem}{suffix}" if n == 1 else f"{stem}_{n}{suffix}" for n in count(1))
            free = next(n for n in names if not any((f / n).exists() for f in (self.images, self.folder)))
            with atomic_write(self.images / free) as part:
                part.write_bytes(data)
            return Photo(_photo_id(free), self.images / free, form, height, width), True

    def annotators(self) -> list[str]:
        """Return the names of those who have documents."""
        folders = (path for path in self.rankings.iterdir() if path.is_dir())
        return sorted(path.name for path in folders if _ANNOTATOR.fullmatch(path.name))

    def revisions(self, photo: Photo) -> dict[str, tuple[int, int]]:
        """Return who has a document of a photo, with a value that changes when it is saved."""
        found = {}
        for annotator in self.annotators():
            with suppress(FileNotFoundError):
                state = self._path(photo, annotator).stat()
                found[annotator] = (state.st_mtime_ns, state.st_ino)
        return found

    def progress(self, photo: Photo, annotator: str, revision: tuple[int, int] | None) -> dict[str, Any]:
        """Return state, version and number of objects of a document, which is read once a revision."""
        if revision is None:
            return {"state": "new", "version": 0, "objects": 0}
        known, found = self._progress.get((photo.id, annotator), (None, {}))
        if known != revision:
            document = self._undamaged(photo, annotator)
            if document is None:
                found = {"state": "damaged", "version": 0, "objects": 0}
            else:
                state = "edited" if document.edited else "ranked"
                found = {"state": state, "version": document.version, "objects": len(document.objects)}
            self._progress[photo.id, annotator] = (revision, found)
        return found

    def document(self, photo: Photo, annotator: str) -> Document:
        """Return the document of an annotator; an empty one of version 0 if there is none."""
        path = self._path(photo, annotator)
        try:
            found = Document.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Document(photo=photo.id, annotator=annotator, height=photo.height, width=photo.width)
        except (OSError, ValidationError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
            sentence = f"{path}: expected a document, found {reason}; repair or delete the file"
            raise RequestRefused(500, sentence) from None
        if (found.height, found.width) != (photo.height, photo.width):
            sizes = f"{found.width} x {found.height} pixels, found {photo.width} x {photo.height}"
            raise RequestRefused(500, f"{photo.name}: expected the photo that was ranked, of {sizes}")
        return found

    @property
    def damaged(self) -> list[str]:
        """Files below ``rankings`` that were no documents when they were last read."""
        names = (f"{annotator}/{photo}.json" for photo, annotator in list(self._damaged))
        return sorted(name for name in names if (self.rankings / name).exists())

    def _undamaged(self, photo: Photo, annotator: str) -> Document | None:
        """Return a document; None if it is damaged, which is logged once."""
        key = (photo.id, annotator)
        try:
            document = self.document(photo, annotator)
        except RequestRefused as error:
            if self._damaged.get(key) != str(error):
                _log.error("%s", error)
            self._damaged[key] = str(error)
            return None
        self._damaged.pop(key, None)
        return document

    def documents(self, photo: Photo) -> Iterator[Document]:
        """Yield the documents of a photo in the order of the annotators' names, without damaged ones."""
        found = (self._undamaged(photo, annotator) for annotator in self.revisions(photo))
        return (document for document in found if document is not None)

    def save(self, photo: Photo, document: Document) -> Document:
        """Write a document whose version is that on disk; return it with its new version.

        Raises:
            RequestRefused: the photo has another size (422); or the document was changed since (409), whose
                answer holds the one on disk.
        """
        if (document.height, document.width) != (photo.height, photo.width):
            found = f"expected {photo.width} x {photo.height}, found {document.width} x {document.height}"
            raise RequestRefused(422, f"width, height: {found}")
        document = document.model_copy(update={"photo": photo.id})
        with self._lock:
            current = self.document(photo, document.annotator)
            if current.version != document.version:
                if (
                    current.edited and current.objects == document.objects
                ):  # the answer to the first try was lost
                    return current
                sentence = (
                    f"version: expected {current.version}, found {document.version}; it was changed since"
                )
                raise RequestRefused(409, sentence, current=current.shown())
            if document.change == current.change:  # sent back as it was read
                document.change = ""
            document.version += 1
            path = self._path(photo, document.annotator)
            path.parent.mkdir(exist_ok=True)
            write_json(path, document.model_dump(by_alias=True))
        return document

    def _path(self, photo: Photo, annotator: str) -> Path:
        return self.rankings / check_annotator(annotator) / f"{photo.id}.json"


def _photo_id(name: str) -> str:
    """Return the file name if it is plain; else a plain one that no other name gives."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '_', name).strip('._-')}-{sha1(name.encode()).hexdigest()[:10]}"


def _decoded_photo(photo: Photo, modified: int) -> NDArray[np.uint8]:
    return read_image(photo.path)
