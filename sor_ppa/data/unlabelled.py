"""Folders of images without labels, and a cache of the boxes proposed for them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FOLDER",
    "ProposalCache",
    "build_proposal_cache",
    "list_images",
    "register_folders",
    "unlabelled_records",
]

logger = logging.getLogger(__name__)

FOLDER = "folder://"
SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"))
SHARD = 128  # images a file of the unfinished cache
VERSION = 2

Propose = Callable[[str], tuple[NDArray[Any], NDArray[Any]]]


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """Every image below a folder, sorted, hidden files left out.

    Raises:
        FileNotFoundError: the folder does not exist or holds no image.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: found no such folder, expected a folder of images")
    found = []
    for base, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:
                found.append(os.path.join(base, name))
    if not found:
        raise FileNotFoundError(
            f"{root}: found no image, expected files ending in {', '.join(sorted(SUFFIXES))}"
        )
    return sorted(found)


def unlabelled_records(names: Iterable[str]) -> list[dict[str, Any]]:
    """Detectron2 records without annotations.

    Args:
        names: ``folder://<path>`` for a folder of images, or a registered dataset, whose labels
            are left out.

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
            from detectron2.data import DatasetCatalog

            files += [record["file_name"] for record in DatasetCatalog.get(name)]
    return [{"file_name": f, "image_id": i, "proposal_row": i} for i, f in enumerate(files)]


def register_folders(names: Iterable[str]) -> None:
    """Register every ``folder://<path>`` among ``names`` as a detectron2 dataset; others are left alone."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    for name in names:
        if name.startswith(FOLDER) and name not in DatasetCatalog.list():
            DatasetCatalog.register(name, partial(unlabelled_records, (name,)))
            MetadataCatalog.get(name).set(thing_classes=["unlabelled"], evaluator_type="none")


def _identity(files: Sequence[str]) -> str:
    """Digest of sizes and of the paths below their common folder, so a moved data set keeps its cache."""
    root = os.path.commonpath([os.path.dirname(f) for f in files])
    names = "\n".join(f"{_size(f)} {os.path.relpath(f, root)}" for f in files)
    return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return -1  # reported when its boxes are proposed


class ProposalCache:
    """Boxes of many images in three memory-mapped arrays.

    Args:
        folder: written by :func:`build_proposal_cache`.

    Raises:
        FileNotFoundError: the cache does not exist or is not finished.
        ValueError: a file of it is damaged.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        if not (self.folder / "offsets.npy").is_file():
            raise FileNotFoundError(
                f"{self.folder}: found no offsets.npy, expected a finished proposal cache"
            )
        self._open()

    def _open(self) -> None:
        self._boxes, self._scores, self._offsets = (
            self._array(f"{name}.npy") for name in ("boxes", "scores", "offsets")
        )
        total = int(self._offsets[-1])
        if self._offsets.ndim != 1 or self._boxes.shape != (max(total, 1), 4) or len(self._scores) < total:
            raise ValueError(
                f"{self.folder / 'boxes.npy'}: found shape {self._boxes.shape}, "
                f"expected ({max(total, 1)}, 4); remove the folder"
            )

    def _array(self, name: str) -> NDArray[Any]:
        try:
            return np.load(self.folder / name, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{self.folder / name}: cannot be read ({error}), expected an array; remove the folder"
            ) from None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        self._open()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def counts(self) -> NDArray[np.int64]:
        """(images,) number of boxes of each image."""
        return np.diff(self._offsets)

    def boxes(self, row: int) -> NDArray[np.float64]:
        """(N, 4) corners in pixels of the image in this row, best first."""
        return np.asarray(self._boxes[self._offsets[row] : self._offsets[row + 1]], dtype=np.float64)

    def scores(self, row: int) -> NDArray[np.float32]:
        """(N,) scores of :meth:`boxes`."""
        return np.asarray(self._scores[self._offsets[row] : self._offsets[row + 1]])


def build_proposal_cache(
    files: Sequence[str],
    folder: str | os.PathLike[str],
    propose: Propose,
    settings: dict[str, Any],
    workers: int = 0,
) -> ProposalCache:
    """Propose boxes for every image, in parallel; go on where an earlier call stopped.

    Damaged parts of an unfinished cache are computed again.

    Args:
        files: image paths; the row of an image is its position.
        folder: of the cache, made if need be.
        propose: path to (N, 4) integer corners, best first, and (N,) scores. It is sent to other
            processes. An ``OSError`` or ``ValueError`` leaves that image without boxes.
        settings: what ``propose`` depends on, for telling whether an old cache fits.
        workers: processes; 0 for one a processor, 1 for none but this.

    Returns:
        the finished cache.

    Raises:
        ValueError: the folder holds a cache of other images or other settings, or a damaged one.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    _check_manifest(target, {"version": VERSION, "images": len(files), "names": _identity(files), **settings})
    if (target / "offsets.npy").is_file():
        return ProposalCache(target)
    starts = range(0, len(files), SHARD)
    missing = [s for s in starts if not _is_whole(_shard(target, s), min(SHARD, len(files) - s))]
    workers = min(workers or os.cpu_count() or 1, max(len(missing), 1))
    logger.info(
        "%s: proposing boxes, %d of %d parts to do, %d processes", target, len(missing), len(starts), workers
    )
    if workers == 1:
        for start in missing:
            _write_shard(target, start, files[start : start + SHARD], propose)
    else:
        with ProcessPoolExecutor(
            workers, mp_context=get_context("spawn"), initializer=_leave_with_parent
        ) as pool:
            tasks = [pool.submit(_write_shard, target, s, files[s : s + SHARD], propose) for s in missing]
            for done, task in enumerate(as_completed(tasks), start=1):
                task.result()
                logger.info("%s: %d of %d parts", target, done, len(tasks))
    _merge(target, starts)
    return ProposalCache(target)


def _leave_with_parent() -> None:
    """End this process when the one that started it ends, even if that was killed."""
    parent = parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _check_manifest(folder: Path, wanted: dict[str, Any]) -> None:
    path = folder / "manifest.json"
    if not path.is_file():
        _write(path, json.dumps(wanted, indent=1, sort_keys=True).encode())
        return
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: found no JSON ({error}), expected a manifest; remove the folder") from None
    for field, value in wanted.items():
        if found.get(field) != value:
            raise ValueError(
                f"{path}: field {field!r}: found {found.get(field)!r}, expected {value!r}; "
                "remove the folder or name another (INPUT.TWO_VIEWS.PROPOSALS.CACHE)"
            )


def _shard(folder: Path, start: int) -> Path:
    return folder / f"part-{start:09d}.npz"


def _is_whole(part: Path, images: int) -> bool:
    """Whether a part of an unfinished cache is there and readable."""
    if not part.is_file():
        return False
    try:
        with np.load(part) as found:
            counts, boxes, scores = found["counts"], found["boxes"], found["scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        logger.warning("%s: damaged (%s); its boxes are proposed again", part, error)
        return False
    return len(counts) == images and counts.sum() == len(boxes) == len(scores)


def _write(path: Path, content: bytes) -> None:
    """Write a whole file or none."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    os.replace(partial, path)


def _write_shard(folder: Path, start: int, files: Sequence[str], propose: Propose) -> None:
    boxes, scores, counts = [np.zeros((0, 4), np.uint16)], [np.zeros(0, np.float32)], []
    for path in files:
        try:
            found, score = propose(path)
        except (OSError, ValueError) as error:
            logger.warning("%s: no boxes (%s)", path, error)
            found, score = np.zeros((0, 4)), np.zeros(0)
        boxes.append(np.clip(found, 0, np.iinfo(np.uint16).max).astype(np.uint16).reshape(-1, 4))
        scores.append(np.asarray(score, dtype=np.float32).reshape(-1))
        counts.append(len(boxes[-1]))
    shard = _shard(folder, start)
    partial = shard.with_name(f".{shard.name}.{os.getpid()}.npz")
    np.savez(partial, boxes=np.concatenate(boxes), scores=np.concatenate(scores), counts=np.array(counts))
    os.replace(partial, shard)


def _merge(folder: Path, starts: Iterable[int]) -> None:
    """Join the parts into the final arrays; offsets come last and mark the cache as finished."""
    counts = []
    for start in starts:
        with np.load(_shard(folder, start)) as part:
            counts.append(part["counts"])
    offsets = np.concatenate(([0], np.cumsum(np.concatenate(counts)))).astype(np.int64)
    total = int(offsets[-1])
    # A memory map cannot be empty; one spare row is never addressed.
    boxes = np.lib.format.open_memmap(folder / "boxes.npy", "w+", np.uint16, (max(total, 1), 4))
    scores = np.lib.format.open_memmap(folder / "scores.npy", "w+", np.float32, (max(total, 1),))
    at = 0
    for start in starts:
        with np.load(_shard(folder, start)) as part:
            size = len(part["scores"])
            boxes[at : at + size] = part["boxes"]
            scores[at : at + size] = part["scores"]
            at += size
    boxes.flush()
    scores.flush()
    empty = int((np.diff(offsets) == 0).sum())
    if empty:
        logger.warning(
            "%s: %d of %d images have no box and will not be used", folder, empty, len(offsets) - 1
        )
    partial = folder / ".offsets.npy"
    np.save(partial, offsets)
    os.replace(partial, folder / "offsets.npy")
    for part in (*folder.glob("part-*.npz"), *folder.glob(".part-*.npz")):  # also of killed processes
        part.unlink(missing_ok=True)
