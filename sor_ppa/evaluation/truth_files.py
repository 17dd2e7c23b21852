"""Ground truth for the command: a registered data set or a JSON file, as detectron2 dataset dicts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_LAST = 1_000_000  # turns "1 = most salient" into "higher = more salient"; only the order is used


class InputError(ValueError):
    """A file that cannot be used; the message is one line that names file, record and field."""


def read_truth(source: str) -> list[dict[str, Any]]:
    """Reads ground truth.

    Args:
        source: the path of a JSON file, or the name of a registered data set. The file is COCO
            (``images`` and ``annotations``, each annotation with ``rank`` or ``attributes.rank``,
            1 = most salient, or ``gt_rank``, higher = more salient; null = not ranked), or a list of
            dicts with ``image_id``, ``file_name``, ``height``, ``width`` and ``annotations``.

    Returns:
        One dict an image, with ``gt_rank`` in its annotations.

    Raises:
        InputError: not found, not JSON, or malformed.
    """
    path = Path(source)
    if path.is_file():
        return _read_json(path)
    if path.suffix == ".json" or "/" in source:
        raise InputError(f"{source}: expected a ground-truth JSON file, found none")
    return _read_registered(source)


def _read_registered(name: str) -> list[dict[str, Any]]:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    import sor_ppa.data  # noqa: F401  (registers the data sets)

    if name not in DatasetCatalog:
        ranking = (
            entry for entry in DatasetCatalog if MetadataCatalog.get(entry).get("evaluator_type") == "sor"
        )
        known = ", ".join(sorted(ranking))
        raise InputError(f"{name}: expected a JSON file or a registered data set ({known}), found neither")
    try:
        return list(DatasetCatalog.get(name))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(" ".join(str(error).split())) from error


def load_json(path: Path) -> Any:
    """Parses a JSON file; raises ``InputError`` in one line."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: expected JSON in UTF-8, found {error.reason} at byte {error.start}"
        ) from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: expected JSON, found {error.msg} at line {error.lineno}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def _read_json(path: Path) -> list[dict[str, Any]]:
    content = load_json(path)
    if isinstance(content, Mapping) and "images" in content and "annotations" in content:
        records = _from_coco(path, content)
    elif isinstance(content, list):
        records = [_record(f"{path}: image {place}", image) for place, image in enumerate(content)]
    else:
        found = sorted(content)[:6] if isinstance(content, Mapping) else type(content).__name__
        raise InputError(
            f"{path}: expected COCO (images, annotations) or a list of images with annotations, found {found}"
        )
    if not records:
        raise InputError(f"{path}: expected at least one image, found none")
    return records


def _from_coco(path: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    images: dict[Any, dict[str, Any]] = {}
    for name in ("images", "annotations"):
        if not isinstance(content[name], list):
            raise InputError(f"{path}: {name}: expected a list, found {type(content[name]).__name__}")
    for place, image in enumerate(content["images"]):
        where = f"{path}: images[{place}]"
        identity = _identity(image, "id", where)
        if identity in images:
            raise InputError(f"{where}: id: expected unique values, found {identity!r} again")
        images[identity] = {
            "image_id": identity,
            "file_name": str(_field(image, "file_name", where)),
            "height": _pixels(image, "height", where),
            "width": _pixels(image, "width", where),
            "annotations": [],
        }
    for place, annotation in enumerate(content["annotations"]):
        where = f"{path}: annotations[{place}]"
        identity = _identity(annotation, "image_id", where)
        if identity not in images:
            raise InputError(f"{where}: image_id: expected one of the images, found {identity!r}")
        images[identity]["annotations"].append(_annotation(where, annotation))
    return list(images.values())


def _record(where: str, image: Any) -> dict[str, Any]:
    annotations = _field(image, "annotations", where, list)
    return {
        "image_id": _identity(image, "image_id", where),
        "file_name": str(_field(image, "file_name", where)),
        "height": _pixels(image, "height", where),
        "width": _pixels(image, "width", where),
        "annotations": [_annotation(f"{where}: annotations[{n}]", one) for n, one in enumerate(annotations)],
    }


def _annotation(where: str, annotation: Any) -> dict[str, Any]:
    if not isinstance(annotation, Mapping):
        raise InputError(f"{where}: expected an object, found {type(annotation).__name__}")
    result = dict(annotation)
    if "gt_rank" in annotation:
        rank = annotation["gt_rank"]
        if rank is not None and not _is_integer(rank):
            raise InputError(f"{where}: gt_rank: expected an integer or null, found {rank!r}")
    else:
        attributes = annotation.get("attributes")
        inner = attributes.get("rank") if isinstance(attributes, Mapping) else None
        rank = annotation.get("rank", inner)
        if isinstance(rank, str) and rank.strip().lstrip("+-").isdigit():
            rank = int(rank)  # annotation tools export attributes as text
        if rank is not None and not (_is_integer(rank) and (1 <= rank < _LAST or rank == -1)):
            raise InputError(
                f"{where}: rank: expected an integer from 1 (= most salient) or null, found {rank!r}"
            )
        rank = None if rank is None or rank < 1 else _LAST - int(rank)
    result["gt_rank"] = rank
    return result


def _is_integer(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value == int(value)


def _identity(entry: Any, name: str, where: str) -> int | str:
    value = _field(entry, name, where)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{where}: {name}: expected a number or text, found {value!r:.60}")
    return value


def _pixels(entry: Any, name: str, where: str) -> int:
    value = _field(entry, name, where)
    if not _is_integer(value) or not 1 <= value <= 1_000_000:
        raise InputError(f"{where}: {name}: expected a number of pixels, found {value!r:.60}")
    return int(value)


def _field(entry: Any, name: str, where: str, kind: type | None = None) -> Any:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where}: expected an object, found {type(entry).__name__}")
    if entry.get(name) is None:
        raise InputError(f"{where}: expected the field {name!r}, found {sorted(entry)}")
    if kind is not None and not isinstance(entry[name], kind):
        raise InputError(f"{where}: {name}: expected {kind.__name__}, found {entry[name]!r:.60}")
    return entry[name]
