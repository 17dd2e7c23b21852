"""Folders of images without labels, and a cache of the boxes proposed for them."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from numpy.typing import NDArray

from .images import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

FOLDER = "folder://"
FILE = "proposals.sqlite"
VERSION = 3
_PART = 128  # images between two writes to the disk

Propose = Callable[[str], tuple[NDArray[Any], NDArray[Any]]]


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Return every image below a folder, sorted, without hidden files.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: expected a folder of images, found no such folder")
    found = glob.glob("**", root_dir=root, recursive=True)
    images = [os.path.join(root, name) for name in found if name.lower().endswith(IMAGE_SUFFIXES)]
    if not images:
        raise FileNotFoundError(
            f"{root}: expected files ending in {', '.join(IMAGE_SUFFIXES)}, found no image"
        )
    return sorted(images)


def unlabelled_records(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return detectron2 records without annotations.

    Args:
        names: ``folder://<path>`` for a folder of images, or a registered dataset, whose labels are
            left out.

    Returns:
        records with ``file_name``, ``image_id`` and ``proposal_row``, both the position in the list.

    Raises:
        KeyError: a dataset is not registered.
        FileNotFoundError: see :func:`list_images`.
    """
    files: list[str] = []
    for name in names:
        if name.startswith(FOLDER):
            files += list_images(name.removeprefix(FOLDER))
        else:
            files += [record["file_name"] for record in DatasetCatalog.get(name)]
    return [{"file_name": f, "image_id": i, "proposal_row": i} for i, f in enumerate(files)]


def register_folders(names: Iterable[str]) -> None:
    """Register every ``folder://<path>`` among ``names`` as a detectron2 dataset; ignore other names."""
    for name in names:
        if name.startswith(FOLDER) and name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(unlabelled_records, (name,)))
            MetadataCatalog.get(name).set(thing_classes=["unlabelled"], evaluator_type="none")


class ProposalCache:
    """Boxes of many images in an SQLite file.

    Args:
        folder: written by :func:`build_proposal_cache`.

    Raises:
        FileNotFoundError: the cache does not exist or is not finished.
        ValueError: the file is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self._path = self.folder / FILE
        if not self._path.is_file():
            raise FileNotFoundError(f"{self._path}: expected a finished proposal cache, found no such file")
        ((settings,),) = self._query("SELECT content FROM settings")
        counts = self._query("SELECT count FROM proposals ORDER BY row")
        if len(counts) != json.loads(settings)["images"]:
            raise FileNotFoundError(
                f"{self._path}: expected a finished proposal cache, found an unfinished one"
            )
        self._counts = np.array(counts, np.int64).reshape(-1)

    def _query(self, command: str, *values: int) -> list[Any]:
        # A connection per query costs little beside reading an image, and none is shared by processes.
        try:
            with closing(sqlite3.connect(self._path, timeout=60)) as connection:
                return connection.execute(command, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise _damaged(self._path, error) from None

    def __len__(self) -> int:
        return len(self._counts)

    def counts(self) -> NDArray[np.int64]:
        """(images,) number of boxes of each image."""
        return self._counts

    def boxes(self, row: int) -> NDArray[np.float64]:
        """(N, 4) corners in pixels of the image in this row, best first."""
        ((content,),) = self._query("SELECT boxes FROM proposals WHERE row = ?", int(row))
        return np.frombuffer(content, np.uint16).reshape(-1, 4).astype(np.float64)

    def scores(self, row: int) -> NDArray[np.float32]:
        """(N,) scores of :meth:`boxes`."""
        ((content,),) = self._query("SELECT scores FROM proposals WHERE row = ?", int(row))
        return np.frombuffer(content, np.float32)


def build_proposal_cache(
    files: Sequence[str],
    folder: str | os.PathLike[str],
    propose: Propose,
    settings: dict[str, Any],
    workers: int = 0,
) -> ProposalCache:
    """Propose boxes for every image, in parallel; continue where an earlier call stopped.

    Args:
        files: image paths; the row of an image is its position.
        folder: of the cache, made if missing.
        propose: path to (N, 4) integer corners, best first, and (N,) scores. It is sent to other
            processes. An ``OSError`` or ``ValueError`` leaves that image without boxes.
        settings: what ``propose`` depends on; a cache with other settings is refused.
        workers: processes; 0 for one per processor, 1 for this process only.

    Returns:
        the finished cache.

    Raises:
        ValueError: the folder holds a cache of other images or other settings, or a damaged one.
    """
    path = Path(folder) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = {"version": VERSION, "images": len(files), "names": _identity(files), **settings}
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            _check_settings(connection, path, wanted)
            done = {row for (row,) in connection.execute("SELECT row FROM proposals")}
            todo = [(row, file) for row, file in enumerate(files) if row not in done]
            logger.info("%s: proposing boxes for %d of %d images", path, len(todo), len(files))
            parts = [todo[start : start + _PART] for start in range(0, len(todo), _PART)]
            for results in _results(partial(_propose_part, propose), parts, workers or os.cpu_count() or 1):
                with connection:
                    connection.executemany("INSERT OR REPLACE INTO proposals VALUES (?, ?, ?, ?)", results)
    except sqlite3.DatabaseError as error:
        raise _damaged(path, error) from None
    cache = ProposalCache(folder)
    if todo and (empty := int((cache.counts() == 0).sum())):
        logger.warning("%s: %d of %d images have no box and will not be used", path, empty, len(files))
    return cache


def _damaged(path: Path, error: sqlite3.DatabaseError) -> ValueError:
    return ValueError(f"{path}: expected a proposal cache, found a damaged file ({error}); remove it")


def _identity(files: Sequence[str]) -> str:
    """Return a digest of sizes and of paths below the common folder, which a moved folder keeps."""
    root = os.path.commonpath([os.path.dirname(file) for file in files])
    sizes = [os.stat(file).st_size if os.path.exists(file) else -1 for file in files]
    names = "\n".join(
        f"{size} {os.path.relpath(file, root)}" for size, file in zip(sizes, files, strict=True)
    )
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def _check_settings(connection: sqlite3.Connection, path: Path, wanted: dict[str, Any]) -> None:
    """Make the tables of a new file, or compare the settings of an existing one."""
    content = json.dumps(wanted)
    with connection:
        connection.execute("CREATE TABLE IF NOT EXISTS settings (id INTEGER PRIMARY KEY, content TEXT)")
        columns = "row INTEGER PRIMARY KEY, count INTEGER, boxes BLOB, scores BLOB"
        connection.execute(f"CREATE TABLE IF NOT EXISTS proposals ({columns})")
        connection.execute("INSERT OR IGNORE INTO settings VALUES (0, ?)", (content,))
    ((found,),) = connection.execute("SELECT content FROM settings").fetchall()
    for field, value in json.loads(content).items():
        if (other := json.loads(found).get(field)) != value:
            raise ValueError(
                f"{path}: field {field!r}: expected {value!r}, found {other!r}; "
                "remove the folder or name another one (INPUT.TWO_VIEWS.PROPOSALS.CACHE)"
            )


def _results(work: Callable[[Any], Any], parts: Sequence[Any], workers: int) -> Iterable[Any]:
    """Yield the results of parts, computed in several processes if there are several parts."""
    if min(workers, len(parts)) <= 1:
        yield from map(work, parts)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(parts)), context, initializer=_exit_with_parent) as pool:
        for number, result in enumerate(pool.map(work, parts), start=1):
            yield result
            logger.info("proposed boxes for %d of %d parts", number, len(parts))


def _propose_part(propose: Propose, part: Sequence[tuple[int, str]]) -> list[tuple[int, int, bytes, bytes]]:
    """Return row, number of boxes, boxes (N, 4) uint16 and scores (N,) float32 of some images."""
    results = []
    for row, file in part:
        try:
            found, scores = propose(file)
        except (OSError, ValueError) as error:
            logger.warning("%s: no boxes (%s)", file, error)
            found, scores = np.zeros((0, 4)), np.zeros(0)
        boxes = np.clip(found, 0, np.iinfo(np.uint16).max).astype(np.uint16).reshape(-1, 4)
        results.append((row, len(boxes), boxes.tobytes(), np.asarray(scores, np.float32).tobytes()))
    return results


def _exit_with_parent() -> None:
    """End this process when the process that started it ends, even if that was killed."""

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()
