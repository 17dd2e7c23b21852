"""Predictions for the command: a folder of painted maps, or a JSON file of ranked instances."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .truth_files import InputError, load_json

RANK_FIELDS = ("rank", "rank_score", "score")
Identity = int | str


@dataclass(slots=True)
class Instances:
    """Ranked instances of one image.

    Attributes:
        segmentations: polygons or RLE, one an instance.
        scores: higher = more salient.
        confidences: detection scores; 1 where the file has none.
        where: the place of each in the file, for messages.
    """

    segmentations: list[Any] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    where: list[str] = field(default_factory=list)


def stem(file_name: str) -> str:
    """File name without folders and extension; how images and predictions are matched."""
    return Path(file_name.replace("\\", "/")).stem


def find_maps(folder: Path) -> dict[str, Path]:
    """Painted maps of a folder by stem.

    Raises:
        InputError: no PNG in it, or two with the same stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() != ".png" or not path.is_file():
            continue
        if path.stem in found:
            raise InputError(f"{path}: expected one map named {path.stem}, found {found[path.stem]} as well")
        found[path.stem] = path
    if not found:
        raise InputError(f"{folder}: expected PNG files, found none")
    return found


def read_map(path: Path) -> NDArray[np.uint8]:
    """A painted map as (H, W) uint8.

    Raises:
        InputError: not a readable 8-bit image, or a coloured one.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise InputError(f"{path}: expected a readable PNG, found {data.size} bytes that do not decode")
    if image.dtype != np.uint8:
        raise InputError(f"{path}: expected 8 bits a pixel, found {image.dtype}")
    grey: NDArray[np.uint8] = np.asarray(image, np.uint8)
    if image.ndim == 3:
        grey = np.ascontiguousarray(grey[:, :, 0])
        if image.shape[2] >= 3 and not ((image[:, :, 1] == grey).all() and (image[:, :, 2] == grey).all()):
            raise InputError(f"{path}: expected grey levels, found colours")
    return grey


def read_instances(path: Path, rank_by: str = "auto") -> tuple[dict[Identity, Instances], str]:
    """Reads ranked instances.

    Args:
        path: a JSON list (or a dict with the list under ``annotations`` or ``predictions``, and all
            predicted images under ``images``, as ids or as dicts with ``id``) of
            ``image_id`` (or ``file_name``), ``segmentation`` (RLE or polygons), and ``rank`` (1 = most
            salient, null = not ranked) or ``rank_score`` (higher = more salient), optionally ``score``.
        rank_by: "rank", "rank_score", "score", or "auto": ``rank`` if the file has it, otherwise
            ``rank_score``.

    Returns:
        Instances by image id or file name, and the field that orders them.

    Raises:
        InputError: malformed, in one line.
    """
    content = load_json(path)
    found: dict[Identity, Instances] = {}
    if isinstance(content, Mapping):
        images = content.get("images", [])
        if not isinstance(images, list):
            raise InputError(f"{path}: images: expected a list, found {type(images).__name__}")
        for place, image in enumerate(images):
            identity = image.get("id", image.get("file_name")) if isinstance(image, Mapping) else image
            found[_identity(identity, f"{path}: images[{place}]: id")] = Instances()
        content = content.get("annotations", content.get("predictions"))
    if not isinstance(content, Sequence) or isinstance(content, str):
        raise InputError(f"{path}: expected a list of instances, found {type(content).__name__}")
    if rank_by == "auto":
        rank_by = _rank_field(path, content)
    for place, entry in enumerate(content):
        where = f"{path}: [{place}]"
        if not isinstance(entry, Mapping):
            raise InputError(f"{where}: expected an object, found {type(entry).__name__}")
        identity = _identity(entry.get("image_id", entry.get("file_name")), f"{where}: image_id")
        segmentation = entry.get("segmentation")
        if not isinstance(segmentation, list | Mapping) or not segmentation:
            raise InputError(f"{where}: segmentation: expected RLE or polygons, found {segmentation!r:.60}")
        image = found.setdefault(identity, Instances())
        score = _score(entry, rank_by, where)
        if score is None:
            continue
        image.segmentations.append(segmentation)
        image.scores.append(score)
        image.confidences.append(_finite(entry.get("score", 1.0), f"{where}: score"))
        image.where.append(where)
    return found, rank_by


def _identity(value: Any, where: str) -> Identity:
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise InputError(f"{where}: expected a number or text, found {value!r:.60}")
    return value


def _rank_field(path: Path, content: Sequence[Any]) -> str:
    for name in RANK_FIELDS[:2]:
        if any(isinstance(entry, Mapping) and name in entry for entry in content):
            return name
    if not content:
        return "rank_score"
    raise InputError(
        f"{path}: expected rank (1 = most salient) or rank_score (higher = more salient) in its entries, "
        "found neither; --rank-by score ranks by detection score"
    )


def _score(entry: Mapping[str, Any], rank_by: str, where: str) -> float | None:
    if rank_by == "rank":
        rank = entry.get("rank")
        if rank is None:
            return None
        value = _finite(rank, f"{where}: rank")
        if value < 1 or value != int(value):
            raise InputError(
                f"{where}: rank: expected an integer from 1 (= most salient) or null, found {rank!r}"
            )
        return -value
    if rank_by not in entry:
        raise InputError(f"{where}: expected the field {rank_by!r}, found {sorted(entry)}")
    return _finite(entry[rank_by], f"{where}: {rank_by}")


def _finite(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{where}: expected a finite number, found {value!r}")
    return float(value)
