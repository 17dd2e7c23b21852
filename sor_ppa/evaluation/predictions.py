"""Predictions for the command: a folder of maps, or a JSON file of ranked instances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import Identity, InputError, expect, identity, integer, load_json, number, short_text

RANK_FIELDS = ("rank", "rank_score", "score")


@dataclass(slots=True)
class ImageInstances:
    """Ranked instances of one image.

    Attributes:
        segmentations: polygons or RLE, one an instance.
        scores: higher = more salient.
        confidences: detection scores; 1 where the file has none.
        labels: ranks as PPA decodes them; None where the file has neither label nor rank.
        where: the place of each in the file, for messages.
    """

    segmentations: list[Any] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    labels: list[int | None] = field(default_factory=list)
    where: list[str] = field(default_factory=list)


def stem(file_name: str) -> str:
    """Return a file name without folders and extension, by which images and predictions are paired."""
    return Path(file_name.replace("\\", "/")).stem


def find_maps(folder: Path) -> dict[str, Path]:
    """Return the maps of a folder by stem.

    Raises:
        InputError: no PNG in it, or two with the same stem.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() != ".png" or not path.is_file():
            continue
        expect(
            path.stem not in found, str(path), f"one map named {path.stem}", f"{found.get(path.stem)} as well"
        )
        found[path.stem] = path
    expect(found, str(folder), "PNG files", "none")
    return found


def read_map(path: Path) -> NDArray[np.uint8]:
    """Read a map as (H, W) uint8.

    Raises:
        InputError: not a readable 8-bit image, or one with colors.
    """
    import cv2

    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise InputError(f"{path}: expected a readable PNG, found {data.size} bytes that do not decode")
    expect(image.dtype == np.uint8, str(path), "8 bits a pixel", image.dtype)
    gray: NDArray[np.uint8] = np.asarray(image, np.uint8)
    if image.ndim == 3:
        gray = np.ascontiguousarray(gray[:, :, 0])
        colorless = (image[:, :, 1:3] == gray[:, :, None]).all() or image.shape[2] == 2
        expect(colorless, str(path), "gray levels", "colors")
    return gray


def read_instances(path: Path, rank_by: str = "auto") -> tuple[dict[Identity, ImageInstances], str]:
    """Read ranked instances.

    Args:
        path: a JSON list (or an object with the list under ``annotations`` or ``predictions``, and all
            predicted images under ``images``, as ids or as objects with ``id``) of ``image_id`` (or
            ``file_name``), ``segmentation`` (RLE or polygons), and ``rank`` (1 = most salient, null =
            not ranked) or ``rank_score`` (higher = more salient), optionally ``score`` and
            ``rank_label``.
        rank_by: "rank", "rank_score", "score", or "auto": ``rank`` if the file has it, otherwise
            ``rank_score``.

    Returns:
        Instances by image id or file name, and the field that orders them.

    Raises:
        InputError: malformed, in one line.
    """
    content = load_json(path)
    found: dict[Identity, ImageInstances] = {}
    if isinstance(content, dict):
        images = content.get("images", [])
        expect(isinstance(images, list), f"{path}: images", "a list", short_text(images))
        for place, image in enumerate(images):
            name = image.get("id", image.get("file_name")) if isinstance(image, dict) else image
            found[identity(name, f"{path}: images[{place}]: id")] = ImageInstances()
        content = content.get("annotations", content.get("predictions"))
    expect(isinstance(content, list), str(path), "a list of instances", type(content).__name__)
    if rank_by == "auto":
        rank_by = _rank_field(path, content)
    for place, entry in enumerate(content):
        where = f"{path}: [{place}]"
        expect(isinstance(entry, dict), where, "an object", short_text(entry))
        name = identity(entry.get("image_id", entry.get("file_name")), f"{where}: image_id")
        segmentation = entry.get("segmentation")
        given = isinstance(segmentation, list | dict) and segmentation
        expect(given, f"{where}: segmentation", "RLE or polygons", short_text(segmentation))
        image = found.setdefault(name, ImageInstances())
        score = _saliency(entry, rank_by, where)
        if score is None:
            continue
        image.segmentations.append(segmentation)
        image.scores.append(score)
        image.confidences.append(number(entry.get("score", 1.0), f"{where}: score"))
        label = entry.get("rank_label")
        if label is not None:
            label = integer(label, f"{where}: rank_label", "an integer or null", -1, 10**9)
        elif rank_by == "rank":
            label = max(-1, 5 + int(score))  # the score is -rank
        image.labels.append(label)
        image.where.append(where)
    return found, rank_by


def _rank_field(path: Path, content: list[Any]) -> str:
    for name in RANK_FIELDS[:2]:
        if any(isinstance(entry, dict) and name in entry for entry in content):
            return name
    expected = "rank (1 = most salient) or rank_score (higher = more salient) in its entries"
    expect(not content, str(path), expected, "neither; --rank-by score ranks by detection score")
    return "rank_score"


def _saliency(entry: Mapping[str, Any], rank_by: str, where: str) -> float | None:
    """Return what orders an instance, higher = more salient; None for one without a rank."""
    if rank_by == "rank":
        expected = "an integer from 1 (= most salient) or null"
        rank = entry.get("rank")
        return None if rank is None else -float(integer(rank, f"{where}: rank", expected, 1, 10**9))
    expect(rank_by in entry, where, f"the field {rank_by!r}", short_text(entry))
    return number(entry[rank_by], f"{where}: {rank_by}")
