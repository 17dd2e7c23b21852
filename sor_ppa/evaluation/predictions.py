"""Predictions of a method: a folder of maps, or a file of ranked instances."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.images import IMAGE_SUFFIXES, read_gray
from ..data.issues import DatasetError
from .checks import (
    Identity,
    InputError,
    expect,
    expect_value,
    field,
    finite_number,
    identity,
    integer,
    load_json,
)

OWN_MAPS = "_saliency"  # end of the names of maps that ``sor-ppa rank`` writes
RANK_FIELDS = ("rank", "rank_score", "score")
_ROUNDING = 1e-6  # a probability in float32 may exceed 1 by this


class InstanceEntry(NamedTuple):
    """One ranked instance of a file.

    Attributes:
        segmentation: polygons or RLE.
        score: higher = more salient.
        confidence: detection score; 1 where the file has none.
        label: rank as PPA decodes it; None where the file has neither label nor rank.
        where: its place in the file, for messages.
        first: probability of being the most salient object; None where the file has none.
    """

    segmentation: Any
    score: float
    confidence: float
    label: int | None
    where: str
    first: float | None = None


class SavedPredictions(NamedTuple):
    """The predictions of a method.

    Attributes:
        kind: "maps" or "instances".
        rank_by: the field that orders instances, None for maps.
        found: a map, or instances, by image id or file name; maps by the stem of the file name.
        names: file name of each image id, where the file says it.
        no_curve: why there are no curves over the confidence, "" if all confidences are in [0, 1].
    """

    kind: str
    rank_by: str | None
    found: Mapping[Identity, Path | list[InstanceEntry]]
    names: Mapping[Identity, str]
    no_curve: str = ""


def read_predictions(path: Path, rank_by: str = "auto") -> SavedPredictions:
    """Read a folder of maps, or a JSON or Parquet file of instances.

    Raises:
        InputError: nothing there, or malformed; see :func:`find_maps` and :func:`read_instances`.
    """
    expect(path.exists(), str(path), "a folder of maps, or a JSON or Parquet file", "nothing")
    if path.is_dir() and not any(path.glob("*.parquet")):
        return SavedPredictions("maps", None, find_maps(path), {})
    return read_instances(path, rank_by)


def stem(file_name: str) -> str:
    """Return a file name without folders and extension, by which images and predictions are paired.

    A number after the last dot is no extension. Composed and decomposed accents are the same.
    """
    path = Path(unicodedata.normalize("NFC", file_name).replace("\\", "/"))
    return path.name if path.suffix[1:].isdigit() else path.stem


def find_maps(folder: Path) -> dict[Identity, Path]:
    """Return the maps of a folder by stem; raise ``InputError`` without PNG files or if two have one stem.

    In a folder of results of ``sor-ppa rank``, the maps are the files ``NAME_saliency.png``. It is one if
    there is a ``NAME.json`` or ``NAME_ranked.png``, or no other file.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".png" and path.is_file()]
    own = {path: path.stem.removesuffix(OWN_MAPS) for path in files if path.stem.endswith(OWN_MAPS)}
    beside = (path.with_name(name + end) for path, name in own.items() for end in (".json", "_ranked.png"))
    if len(own) < len(files) and not any(path.exists() for path in beside):
        own = {}
    found: dict[Identity, Path] = {}
    for path in own or files:
        name = stem(own.get(path, path.stem) + ".png")
        other = found.setdefault(name, path)
        expect(other is path, str(path), f"one map named {name}", f"{other} as well")
    lossy = next((path.name for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES), None)
    found_instead = f"none, but {lossy}" if lossy else "none"
    expect(found, str(folder), "PNG files (JPEG changes gray levels)", found_instead)
    return found


def read_map(path: Path) -> NDArray[np.uint8]:
    """Read a map as (H, W) uint8; raise ``InputError`` unless it is a readable 8-bit image without colors."""
    try:
        image = read_gray(path)
    except DatasetError as error:
        raise InputError(str(error)) from error
    expect(image.dtype == np.uint8, str(path), "8 bits a pixel", image.dtype)
    return image


def _read_table(path: Path) -> Any:
    """Return a Parquet file (or folder of them) of ``sor-ppa rank`` as the content of a JSON file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path}: expected the package pyarrow to read Parquet, found none") from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: expected a Parquet file, found one that pyarrow cannot read") from error
    names = {"image", "height", "width", "segmentation"}
    expect(names <= {*table.column_names}, str(path), f"columns {sorted(names)}", sorted(table.column_names))
    rows = table.to_pylist()
    for row in rows:
        row["file_name"] = row.pop("image")
        row["segmentation"] = {"size": [row.pop("height"), row.pop("width")], "counts": row["segmentation"]}
    text = (table.schema.metadata or {}).get(b"images", b"[]")
    try:
        images = json.loads(text)
    except ValueError:
        images = None
    good = isinstance(images, list) and all(isinstance(name, str) for name in images)
    expect_value(good, f"{path}: metadata 'images'", "a JSON list of file names", text)
    return {"images": [{"file_name": name} for name in images], "annotations": rows}


def read_instances(path: Path, rank_by: str = "auto") -> SavedPredictions:
    """Return the ranked instances of a file by image id or file name, and the field that orders them.

    Args:
        path: a Parquet file of ``sor-ppa rank``, or a JSON list (or an object with the list under
            ``annotations`` or ``predictions``, and all predicted images under ``images``, as ids or as
            objects with ``id``) of ``image_id`` (or ``file_name``), ``segmentation`` (RLE or polygons), and
            ``rank`` (1 = most salient, null = not ranked) or ``rank_score`` (higher = more salient),
            optionally ``score``, ``rank_label`` and ``first_probability``.
        rank_by: "rank", "rank_score", "score", or "auto": ``rank`` if the file has it and it is not null
            throughout, otherwise ``rank_score``.

    Raises:
        InputError: malformed.
    """
    content = _read_table(path) if path.suffix == ".parquet" or path.is_dir() else load_json(path)
    found: dict[Identity, list[InstanceEntry]] = {}
    names: dict[Identity, str] = {}
    if isinstance(content, dict):
        images = content.get("images", [])
        expect_value(isinstance(images, list), f"{path}: images", "a list", images)
        for place, image in enumerate(images):
            given = image.get("id", image.get("file_name")) if isinstance(image, dict) else image
            name = identity(given, f"{path}: images[{place}]: id")
            found[name] = []
            if isinstance(image, dict) and isinstance(image.get("file_name"), str):
                names[name] = image["file_name"]
        content = content.get("annotations", content.get("predictions"))
    expect_value(isinstance(content, list), str(path), "a list of instances", content)
    if rank_by == "auto":
        entries = [entry for entry in content if isinstance(entry, dict)]
        fields = {name for entry in entries for name in entry}
        ranked = "rank_score" not in fields or any(entry.get("rank") is not None for entry in entries)
        rank_by = "rank" if "rank" in fields and ranked else "rank_score"
        expected = "rank (1 = most salient) or rank_score (higher = more salient) in its entries"
        none = "neither; --rank-by score ranks by detection score"
        expect(rank_by in fields or not content, str(path), expected, none)
    no_curve = ""
    for place, entry in enumerate(content):
        where = f"{path}: [{place}]"
        expect_value(isinstance(entry, dict), where, "an object", entry)
        file_name = entry.get("file_name")
        name = identity(entry.get("image_id", file_name), f"{where}: image_id")
        if isinstance(file_name, str) and name != file_name:
            other = names.setdefault(name, file_name)
            expect(other == file_name, f"{where}: file_name", f"{other} as elsewhere for {name!r}", file_name)
        instances, instance = found.setdefault(name, []), instance_entry(entry, rank_by, where)
        if instance is None:
            continue
        instances.append(instance)
        if not no_curve and not ("score" in entry and 0 <= instance.confidence <= 1 + _ROUNDING):
            no_curve = f"{where}: score: expected a number in [0, 1], found {entry.get('score', 'none')}"
    return SavedPredictions("instances", rank_by, found, names, no_curve)


def instance_entry(entry: Mapping[str, Any], rank_by: str, where: str) -> InstanceEntry | None:
    """Return an instance, or None if it is ordered by rank and has none.

    Args:
        entry: ``segmentation`` and the other fields of :func:`read_instances`.
        rank_by: the field that orders instances, not "auto".
        where: its place in a file, for messages.

    Raises:
        InputError: malformed.
    """
    segmentation, rank, label = (entry.get(key) for key in ("segmentation", "rank", "rank_label"))
    given = isinstance(segmentation, list | dict) and segmentation
    expect_value(given, f"{where}: segmentation", "RLE or polygons", segmentation)
    if label is not None:
        label = integer(label, f"{where}: rank_label", "an integer or null", -1, 10**9)
    if rank_by != "rank":
        score = finite_number(field(entry, rank_by, where), f"{where}: {rank_by}")
    elif rank is None:
        return None
    else:
        expected = "an integer from 1 (= most salient) or null"
        score = -float(integer(rank, f"{where}: rank", expected, 1, 10**9))
        label = max(-1, 5 + int(score)) if label is None else label
    confidence = finite_number(entry.get("score", 1.0), f"{where}: score")
    first = entry.get("first_probability")
    if first is not None:
        first = finite_number(first, f"{where}: first_probability")
        probable = 0 <= first <= 1 + _ROUNDING
        expect(probable, f"{where}: first_probability", "a number in [0, 1] or null", first)
        first = min(first, 1.0)
    return InstanceEntry(segmentation, score, confidence, label, where, first)
