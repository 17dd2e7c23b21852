"""A cache of records that is only believed while nothing has changed.

One file for each dataset, below ``$SOR_PPA_CACHE``, else ``$XDG_CACHE_HOME/sor_ppa``, else
``~/.cache/sor_ppa``. It holds numbers and text, no pickle, and is used only if

- it was written for this dataset, these options and this version of the format;
- the content (hash) of the annotation files is what it was;
- every image (and every painted map) has the size, the time of modification and the time of change of
  status that it had. The last moves with every write and cannot be set back by tools, so that content
  replaced by as many bytes under the old time is seen without reading it;
- its own arrays fit together.

In every other case the dataset is read from its files and the cache written anew, under another name
that is then moved into place, so that processes which do this at the same time do not meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .record import ImageRecord, ObjectRecord, Segmentation

__all__ = ["SMALLEST", "cache_folder", "cached_records"]

logger = logging.getLogger(__name__)

SMALLEST = 256
"""Datasets of fewer images are read faster than a cache is worth."""

_VERSION = 2
_NO_LABEL = -(2**31)
_NONE, _POLYGONS, _RLE = 0, 1, 2


def cache_folder() -> Path:
    """Folder of the cache files."""
    own = os.environ.get("SOR_PPA_CACHE")
    if own:
        return Path(own).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "sor_ppa"


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _content_digest(files: Sequence[Path | str]) -> str:
    """Hash of the names and contents of files; a missing file counts as such."""

    def parts() -> Iterable[bytes]:
        for file in files:
            yield os.fsencode(os.path.basename(file))
            try:
                with open(file, "rb", buffering=0) as stream:
                    yield stream.read()
            except OSError:
                yield b"\0missing"

    return _digest(parts())


def _stamps(paths: Sequence[str]) -> np.ndarray:
    """(N, 3) int64 size in bytes, mtime and ctime in ns; -1 for files that are not there."""
    values = np.full((len(paths), 3), -1, dtype=np.int64)
    for row, path in zip(values, paths, strict=True):
        try:
            status = os.stat(path)
        except OSError:
            continue
        row[:] = status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return values


def _bounds(counts: np.ndarray) -> Iterable[tuple[int, int]]:
    """Begin and end of consecutive runs of the given lengths."""
    return pairwise([0, *accumulate(counts.tolist())])


def _pack(records: Sequence[ImageRecord]) -> dict[str, np.ndarray]:
    """Records as arrays."""
    objects = [item for record in records for item in record.objects]
    polygons: list[list[float]] = []
    kinds, parts, texts = [], [], []
    for item in objects:
        mask = item.segmentation
        kinds.append(_NONE if mask is None else _POLYGONS if isinstance(mask, list) else _RLE)
        parts.append(len(mask) if isinstance(mask, list) else 0)
        if isinstance(mask, list):
            polygons += mask
        elif mask is not None:
            texts.append(_rle_text(mask))
    names = "\0".join(record.file_name for record in records).encode("utf-8", "surrogateescape")
    labels = [_NO_LABEL if item.label is None else item.label for item in objects]
    coordinates = np.fromiter((value for polygon in polygons for value in polygon), np.float64)
    return {
        "names": np.frombuffer(names, np.uint8),
        "images": np.array([[r.height, r.width, r.image_id, len(r.objects)] for r in records], np.int64),
        "boxes": np.array([item.box for item in objects], np.float64).reshape(-1, 4),
        "facts": np.array(
            [[item.rank, label, item.iscrowd] for item, label in zip(objects, labels, strict=True)], np.int32
        ).reshape(-1, 3),
        "kinds": np.array(kinds, np.uint8),
        "parts": np.array(parts, np.int32),
        "lengths": np.array([len(polygon) for polygon in polygons], np.int32),
        "coordinates": coordinates,
        "rles": np.frombuffer("\0".join(texts).encode("utf-8"), np.uint8),
    }


def _rle_text(rle: dict[str, Any]) -> str:
    counts = rle["counts"]
    if isinstance(counts, bytes):
        return json.dumps([list(rle["size"]), counts.decode("ascii"), "bytes"])
    return json.dumps([list(rle["size"]), counts])


def _rle(text: str) -> dict[str, Any]:
    size, counts, *kind = json.loads(text)
    return {"size": size, "counts": counts.encode("ascii") if kind else counts}


def _unpack(arrays: dict[str, np.ndarray]) -> list[ImageRecord]:
    """Records from arrays.

    Raises:
        ValueError: the arrays do not fit together.
    """
    images, facts, kinds = arrays["images"], arrays["facts"], arrays["kinds"]
    names = arrays["names"].tobytes().decode("utf-8", "surrogateescape").split("\0") if len(images) else []
    rles = arrays["rles"].tobytes().decode("utf-8").split("\0") if (kinds == _RLE).any() else []
    count = len(kinds)
    fits = (
        len(names) == len(images)
        and int(images[:, 3].sum()) == count == len(facts) == len(arrays["boxes"]) == len(arrays["parts"])
        and int(arrays["parts"].sum()) == len(arrays["lengths"])
        and int(arrays["lengths"].sum()) == len(arrays["coordinates"])
        and int((kinds == _RLE).sum()) == len(rles)
    )
    if not fits:
        raise ValueError("arrays of different lengths")
    flat = arrays["coordinates"].tolist()
    polygons = [flat[begin:end] for begin, end in _bounds(arrays["lengths"])]
    encoded = iter(rles)
    objects = []
    rows = zip(
        arrays["boxes"].tolist(), facts.tolist(), kinds.tolist(), _bounds(arrays["parts"]), strict=True
    )
    for box, (rank, label, crowd), kind, (begin, end) in rows:
        mask: Segmentation | None = None
        if kind == _POLYGONS:
            mask = polygons[begin:end]
        elif kind == _RLE:
            mask = _rle(next(encoded))
        known = None if label == _NO_LABEL else label
        objects.append(ObjectRecord(tuple(box), mask, rank, bool(crowd), known))
    return [
        ImageRecord(name, height, width, tuple(objects[begin:end]), image_id)
        for name, (height, width, image_id, _), (begin, end) in zip(
            names, images.tolist(), _bounds(images[:, 3]), strict=True
        )
    ]


def _load(path: Path, key: str, content: str, stamped: Sequence[Path | str]) -> list[ImageRecord] | None:
    """Records of a cache file; None if it is not to be believed."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if arrays.pop("header").tobytes().decode() != f"{_VERSION} {key} {content}":
            return None
        stamps = arrays.pop("stamps")
        records = _unpack(arrays)
        paths = [record.file_name for record in records] + [str(item) for item in stamped]
        if stamps.shape != (len(paths), 3) or not np.array_equal(stamps, _stamps(paths)):
            return None
        return records
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a broken or foreign file does, the dataset itself is at hand
        logger.debug("cache %s not used: %s", path, error)
        return None


def _store(
    path: Path, key: str, content: str, stamped: Sequence[Path | str], records: list[ImageRecord]
) -> None:
    """Write a cache file; a disk that does not take it is no fault."""
    paths = [record.file_name for record in records] + [str(item) for item in stamped]
    header = np.frombuffer(f"{_VERSION} {key} {content}".encode(), np.uint8)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as stream:
            arrays: dict[str, Any] = {"header": header, "stamps": _stamps(paths), **_pack(records)}
            np.savez(stream, **arrays)
        os.replace(temporary, path)
    except Exception as error:  # a dataset that the cache cannot hold is as good without
        logger.debug("cache %s not written: %s", path, error)
        with contextlib.suppress(OSError):
            temporary.unlink()


def cached_records(
    name: str,
    key: Sequence[object],
    contents: Sequence[Path | str],
    stamped: Sequence[Path | str],
    read: Callable[[], list[ImageRecord]],
) -> list[ImageRecord]:
    """Records from the cache if that is valid, else read, and then cached.

    Args:
        name: of the dataset, for the name of the cache file.
        key: all else that decides what is read (format, folder, split, options).
        contents: annotation files whose content counts.
        stamped: further files whose size and times count.
        read: reads the dataset.

    Returns:
        what ``read`` returns, or would return.
    """
    identity = _digest([repr(tuple(key)).encode("utf-8", "surrogateescape")])
    path = cache_folder() / f"{name}-{identity[:12]}.npz"
    content = _content_digest(contents)
    records = _load(path, identity, content, stamped)
    if records is not None:
        logger.info("%d images of %s from the cache", len(records), name)
        return records
    records = read()
    if len(records) >= SMALLEST and content == _content_digest(contents):
        _store(path, identity, content, stamped, records)
    return records
