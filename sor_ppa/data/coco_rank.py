"""Readers of SeqRank's JSON and of COCO JSON with ranks.

SeqRank (ICCV 2023 era; one folder for each dataset)::

    {name}_{split}.json     {"data": [{"image_name", "height", "width", "annotations": [...]}]}
    images/{split}/         image_name + ".jpg"

where ``category_id`` of an annotation is 0 for objects that are not salient, else the rank.

COCO with ranks (also the export format of this package)::

    annotations/rank_{split}.json      COCO, with ``rank`` (or ``attributes.rank``) in annotations
    images/{split}/, images/ or .      photographs

Higher ranks are more salient, unless ``info.rank_order`` says "lower is more salient". An annotation
without a rank is not salient; ``label`` (optional) is the label that published code trains on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .assemble import Draft, Place, assemble, boxed_mask, image_finder, note_ranks
from .checks import is_number, json_file, shown
from .faults import DatasetError, FaultSink
from .record import UNRANKED, ImageRecord, ObjectRecord, dense_ranks

__all__ = ["HIGHER", "LOWER", "coco_file", "read_coco", "read_coco_file", "read_seqrank", "seqrank_file"]

logger = logging.getLogger(__name__)

HIGHER, LOWER = "higher is more salient", "lower is more salient"


def seqrank_file(root: Path, split: str) -> Path:
    """Annotation file of a split in SeqRank's layout; the dataset is named by its folder."""
    return root / f"{root.name.lower()}_{split}.json"


def coco_file(root: Path, split: str) -> Path:
    """Annotation file of a split in the layout of COCO with ranks."""
    return root / "annotations" / f"rank_{split}.json"


def _whole(value: Any) -> int | None:
    """A whole number, or None."""
    return int(value) if is_number(value) and value == int(value) else None


def _rank(value: Any) -> int | None:
    """A whole number, also as text (annotation tools export attributes as text), or None."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return _whole(value)


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    height, width = _whole(entry.get("height")), _whole(entry.get("width"))
    return None if height is None or width is None else (height, width)


def read_seqrank(
    root: str | Path, split: str, *, keep_rankless: bool = False, sink: FaultSink | None = None
) -> list[ImageRecord]:
    """Read one split of a folder in SeqRank's layout. No image is decoded.

    Args:
        root: the folder that holds ``{name}_{split}.json``, itself called name (``assr``, ``irsr``).
        split: ``train``, ``val`` or ``test``.
        keep_rankless: keep objects that are not salient.
        sink: collects faults; by default the first serious one raises.

    Raises:
        DatasetError: something is missing or broken; the message names file, record and field.
    """
    sink = sink or FaultSink()
    root = Path(root)
    file = seqrank_file(root, split)
    content = json_file(file)
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: field data: found {shown(entries)}, expected a list of images")
    find = image_finder(root / "images" / split)
    drafts = []
    for index, entry in enumerate(entries):
        name = entry.get("image_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            sink.serious(
                "bad-record", file, str(index), "image_name", f"found {shown(name)}, expected a name"
            )
            continue
        place = Place(file, f"{index} ({name})")
        annotations = entry.get("annotations")
        if not isinstance(annotations, list):
            detail = f"found {shown(annotations)}, expected a list"
            sink.serious("bad-record", file, place.record, "annotations", detail)
            continue
        kept = []
        for number, item in enumerate(annotations):
            rank = _whole(item.get("category_id")) if isinstance(item, dict) else None
            field = f"annotations[{number}]"
            if rank is None or rank < 0:
                detail = f"found {shown(item)}, expected a whole number of at least 0 in category_id"
                sink.serious("bad-ranks", file, place.record, field, detail)
                continue
            if rank == 0 and not keep_rankless:
                continue
            found = boxed_mask({"segmentation": item.get("segmentation")}, place, field, sink, xywh=True)
            if found is not None:
                kept.append((*found, rank))
        values = [rank for _, _, rank in kept if rank]
        note_ranks(values, place, "annotations[].category_id", sink, lowest=1)
        order = iter(dense_ranks(values))
        objects = tuple(
            ObjectRecord(box, mask, next(order) if rank else UNRANKED) for box, mask, rank in kept
        )
        drafts.append(Draft(find(name), place, objects, index, _size(entry)))
    records = assemble(drafts, "image_name", sink)
    sink.summarise()
    logger.info("read %d images of %s from %s", len(records), split, root)
    return records


def _image_folder(root: Path, split: str, names: list[str]) -> Path:
    """The folder that the file names of a COCO file refer to: the first that holds the first image."""
    folders = [root / "images" / split, root / "images", root, root / split]
    if not names:
        return folders[0]
    return next((folder for folder in folders if (folder / names[0]).is_file()), folders[0])


def read_coco(
    root: str | Path, split: str, *, keep_rankless: bool = False, sink: FaultSink | None = None
) -> list[ImageRecord]:
    """Read ``annotations/rank_{split}.json`` of a folder, with its images in ``images/``.

    Args:
        root: the folder of the dataset.
        split: any name.
        keep_rankless: keep annotations without a rank.
        sink: collects faults; by default the first serious one raises.

    Raises:
        DatasetError: something is missing or broken; the message names file, record and field.
    """
    root = Path(root)
    file = coco_file(root, split)
    return read_coco_file(file, root, split, keep_rankless=keep_rankless, sink=sink)


def read_coco_file(
    file: Path,
    root: Path,
    split: str = "",
    *,
    images: Path | None = None,
    keep_rankless: bool = False,
    sink: FaultSink | None = None,
) -> list[ImageRecord]:
    """Read one COCO file with ranks.

    Args:
        file: the JSON file.
        root: folder of the dataset, below which images are looked for.
        split: looked for as a folder of images.
        images: folder that file names refer to (None: found below ``root``).
        keep_rankless: keep annotations without a rank; crowds always stay.
        sink: collects faults; by default the first serious one raises.

    Raises:
        DatasetError: something is missing or broken; the message names file, record and field.
    """
    sink = sink or FaultSink()
    content = json_file(file)
    if not isinstance(content, dict):
        raise DatasetError(f"{file}: found {shown(content)}, expected COCO's object of lists")
    entries, annotations = content.get("images"), content.get("annotations")
    for field, value in (("images", entries), ("annotations", annotations)):
        if not isinstance(value, list):
            raise DatasetError(f"{file}: field {field}: found {shown(value)}, expected a list")
    assert entries is not None
    assert annotations is not None
    info = content.get("info")
    order = info.get("rank_order", HIGHER) if isinstance(info, dict) else HIGHER
    if order not in (HIGHER, LOWER):
        expected = f'"{HIGHER}" or "{LOWER}"'
        raise DatasetError(f"{file}: field info.rank_order: found {shown(order)}, expected {expected}")
    sign = 1 if order == HIGHER else -1

    images_by_id: dict[int, tuple[dict[str, Any], list[tuple[int, Any]]]] = {}
    for index, entry in enumerate(entries):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        image_id = _whole(entry.get("id")) if isinstance(entry, dict) else None
        if image_id is None or not isinstance(name, str) or not name:
            detail = f"found {shown(entry)}, expected a whole id and a file_name"
            sink.serious("bad-record", file, f"images[{index}]", "id, file_name", detail)
        elif image_id in images_by_id:
            sink.serious("duplicate-id", file, f"images[{index}]", "id", f"found {image_id} a second time")
        else:
            images_by_id[image_id] = (entry, [])
    if sink.collect:
        _note_twins(annotations, file, sink)
    for index, item in enumerate(annotations):
        image_id = _whole(item.get("image_id")) if isinstance(item, dict) else None
        if image_id is None or image_id not in images_by_id:
            detail = f"found {shown(image_id)}, expected the id of an image"
            sink.serious("bad-object", file, f"annotations[{index}]", "image_id", detail)
        else:
            images_by_id[image_id][1].append((index, item))

    folder = images or _image_folder(root, split, [e["file_name"] for e, _ in images_by_id.values()])
    drafts = []
    for image_id, (entry, items) in images_by_id.items():
        place = Place(file, f"image {image_id} ({entry['file_name']})")
        objects = _coco_objects(items, place, sign, keep_rankless, sink)
        drafts.append(Draft(str(folder / entry["file_name"]), place, objects, image_id, _size(entry)))
    records = assemble(drafts, "file_name", sink)
    sink.summarise()
    logger.info("read %d images from %s", len(records), file)
    return records


def _note_twins(annotations: list[Any], file: Path, sink: FaultSink) -> None:
    """Report annotations with the id of an earlier one: harmless here, not in COCO's own tools."""
    seen: set[int] = set()
    for index, item in enumerate(annotations):
        number = _whole(item.get("id")) if isinstance(item, dict) else None
        if number is not None and number in seen:
            detail = f"found {number} a second time"
            sink.serious("duplicate-id", file, f"annotations[{index}]", "id", detail)
        elif number is not None:
            seen.add(number)


def _coco_objects(
    items: list[tuple[int, Any]],
    place: Place,
    sign: int,
    keep_rankless: bool,
    sink: FaultSink,
) -> tuple[ObjectRecord, ...]:
    kept = []
    for index, item in items:
        attributes = item.get("attributes")
        inner = attributes.get("rank") if isinstance(attributes, dict) else None
        given = item.get("rank", inner)
        rank, field = _rank(given), f"annotations[{index}]"
        if given is not None and rank is None:
            detail = f"found {shown(given)}, expected a whole number"
            sink.serious("bad-ranks", place.file, place.record, f"{field}.rank", detail)
            continue
        crowd = bool(item.get("iscrowd", 0))
        unranked = rank is None or rank < 0 or crowd
        if unranked and not (keep_rankless or crowd):
            continue
        found = boxed_mask(item, place, field, sink, xywh=True)
        if found is not None:
            label = None if unranked else _whole(item.get("label"))
            kept.append((*found, None if rank is None or unranked else sign * rank, crowd, label))
    values = [rank for _, _, rank, _, _ in kept if rank is not None]
    note_ranks(
        [sign * value for value in values], place, "annotations[].rank", sink, lowest=0 if sign > 0 else 1
    )
    order = iter(dense_ranks(values))
    return tuple(
        ObjectRecord(box, mask, UNRANKED if rank is None else next(order), crowd, label)
        for box, mask, rank, crowd, label in kept
    )
