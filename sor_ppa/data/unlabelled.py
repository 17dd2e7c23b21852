"""Folders of images without labels, and a cache of the boxes proposed for them."""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from numpy.typing import NDArray

from ..atomic import atomic_write
from ..processes import exit_with_parent
from .images import IMAGE_SUFFIXES

logger = logging.getLogger(__name__)

FOLDER = "folder://"
SETTINGS = "settings.json"
VERSION = 4
_PART = 128  # images per file

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
        suffixes = ", ".join(IMAGE_SUFFIXES)
        raise FileNotFoundError(f"{root}: expected files ending in {suffixes}, found no image")
    return sorted(images)


def unlabelled_records(names: Iterable[str]) -> list[dict[str, Any]]:
    """Return detectron2 records with ``file_name``, ``image_id`` and ``proposal_row`` (position in the list).

    Args:
        names: ``folder://<path>`` for a folder of images, or a registered dataset, whose labels are left out.

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
    """Boxes of many images in a folder of ``.npz`` files, written by :func:`build_proposal_cache`.

    Raises:
        FileNotFoundError: the cache does not exist or is not finished.
        ValueError: a file is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        images = _read(self.folder / SETTINGS, lambda path: int(json.loads(path.read_text())["images"]))
        counts = [self._part("counts", start) for start in range(0, images, _PART)]
        self._counts = np.concatenate([np.zeros(0, np.int64), *counts])

    def _part(self, name: str, start: int) -> NDArray[Any]:
        def read(path: Path) -> NDArray[Any]:
            with np.load(path) as arrays:
                return arrays[name]

        return _read(_part_file(self.folder, start), read)

    def _of_image(self, name: str, row: int) -> NDArray[Any]:
        start = row // _PART * _PART
        first = int(self._counts[start:row].sum())
        return self._part(name, start)[first : first + int(self._counts[row])]

    def __len__(self) -> int:
        return len(self._counts)

    def counts(self) -> NDArray[np.int64]:
        """(images,) number of boxes of each image."""
        return self._counts

    def boxes(self, row: int) -> NDArray[np.float64]:
        """(N, 4) corners in pixels of the image in this row, best first."""
        return self._of_image("boxes", row).astype(np.float64)

    def scores(self, row: int) -> NDArray[np.float32]:
        """(N,) scores of :meth:`boxes`."""
        return self._of_image("scores", row)


def _part_file(folder: Path, start: int) -> Path:
    return folder / f"{start:09d}.npz"


def _read(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: expected a finished proposal cache, found no such file") from None
    except Exception as error:  # readers raise many types for damaged files
        reason = f"a damaged file ({error})"
        raise ValueError(f"{path}: expected a part of a proposal cache, found {reason}; remove it") from None


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

    Raises:
        ValueError: the folder holds a cache of other images or other settings, or a damaged one.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"version": VERSION, "images": len(files), "names": _identity(files), **settings}
    _check_settings(folder / SETTINGS, json.loads(json.dumps(wanted)))
    starts = [start for start in range(0, len(files), _PART) if not _part_file(folder, start).is_file()]
    logger.info("%s: proposing boxes for %d parts of %d images", folder, len(starts), _PART)
    work = partial(_write_part, propose)
    parts = [files[start : start + _PART] for start in starts]
    paths = [_part_file(folder, start) for start in starts]
    count = min(workers or os.cpu_count() or 1, len(starts))
    if count <= 1:
        list(map(work, parts, paths))
    else:
        with ProcessPoolExecutor(count, get_context("spawn"), initializer=exit_with_parent) as pool:
            for number, _ in enumerate(pool.map(work, parts, paths), start=1):
                logger.info("proposed boxes for %d of %d parts", number, len(starts))
    cache = ProposalCache(folder)
    if starts and (empty := int((cache.counts() == 0).sum())):
        logger.warning("%s: %d of %d images have no box and will not be used", folder, empty, len(files))
    return cache


def _identity(files: Sequence[str]) -> str:
    """Return a digest of sizes and of paths below the common folder, which a moved folder keeps."""
    root = os.path.commonpath([os.path.dirname(file) for file in files])
    sizes = [os.stat(file).st_size if os.path.exists(file) else -1 for file in files]
    names = "\n".join(
        f"{size} {os.path.relpath(file, root)}" for size, file in zip(sizes, files, strict=True)
    )
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def _check_settings(path: Path, wanted: dict[str, Any]) -> None:
    """Write the settings of a new cache, or compare those of an existing one."""
    if not path.exists():
        with atomic_write(path) as file:
            file.write_text(json.dumps(wanted))
    found = _read(path, lambda path: dict(json.loads(path.read_text())))
    for field, value in wanted.items():
        if (other := found.get(field)) != value:
            raise ValueError(
                f"{path}: field {field!r}: expected {value!r}, found {other!r}; "
                "remove the folder or name another one (INPUT.TWO_VIEWS.PROPOSALS.CACHE)"
            )


def _write_part(propose: Propose, files: Sequence[str], path: Path) -> None:
    """Write number of boxes, boxes (N, 4) uint16 and scores (N,) float32 of some images."""
    boxes, scores = [np.zeros((0, 4), np.uint16)], [np.zeros(0, np.float32)]
    for file in files:
        try:
            found, values = propose(file)
        except (OSError, ValueError) as error:
            logger.warning("%s: no boxes (%s)", file, error)
            found, values = np.zeros((0, 4)), np.zeros(0)
        boxes.append(np.clip(found, 0, np.iinfo(np.uint16).max).astype(np.uint16).reshape(-1, 4))
        scores.append(np.asarray(values, np.float32))
    counts = np.array([len(part) for part in boxes[1:]], np.int64)
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, counts=counts, boxes=np.concatenate(boxes), scores=np.concatenate(scores))
