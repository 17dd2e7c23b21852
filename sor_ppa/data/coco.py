"""Readers of SeqRank's JSON and of COCO JSON with ranks.

SeqRank (one folder per dataset)::

    {name}_{split}.json     {"data": [{"image_name", "height", "width", "annotations": [...]}]}
    images/{split}/         image_name + ".jpg"

The ``category_id`` of an annotation is 0 for objects that are not salient, else the rank. The name in
the file name is that of the folder in lower case (``assr``, ``irsr``).

COCO with ranks (also the format that this package converts to)::

    annotations/rank_{split}.json      COCO, with ``rank`` (or ``attributes.rank``) in annotations
    images/{split}/, images/ or .      photographs

Higher ranks are more salient, unless ``info.rank_order`` says "lower is more salient". An annotation
without a rank is not salient. ``label`` (optional) is the label that published code trains on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from .images import image_finder
from .issues import DatasetError, IssueLog, expected
from .masks import whole
from .reader import (
    Format,
    RawImage,
    RawObject,
    claimed_size,
    entry_list,
    json_file,
    named_entries,
    ranked_object,
)
from .record import ImageRecord

HIGHER, LOWER = "higher is more salient", "lower is more salient"


def seqrank_file(root: Path, split: str) -> Path:
    """Return the annotation file of a split in SeqRank's layout."""
    return root / f"{root.name.lower()}_{split}.json"


def coco_file(root: Path, split: str) -> Path:
    """Return the annotation file of a split in the layout of COCO with ranks."""
    return root / "annotations" / f"rank_{split}.json"


def _seqrank_entries(root: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    file = seqrank_file(root, split)
    data = json_file(file, "data")["data"]
    find = image_finder(root / "images" / split)
    for index, name, place, entry in named_entries(data, file, "image_name", log):
        annotations, objects = entry_list(entry, "annotations", place), []
        if annotations is None:
            continue
        for number, item in enumerate(annotations):
            rank = whole(item.get("category_id")) if isinstance(item, dict) else None
            field = f"annotations[{number}]"
            if rank is None or rank < 0:
                place.fault("bad-ranks", field, expected("a whole number of at least 0 in category_id", item))
            else:  # the box is not read: it is that of the mask
                mask = {"segmentation": item.get("segmentation")}
                objects.append(RawObject(mask, field, rank or None))
        yield RawImage(find(name), place, index, objects, claimed_size(entry), first_rank=1)


def _image_folder(root: Path, split: str, names: list[str]) -> Path:
    """Return the folder that file names refer to: the first that holds the first image."""
    folders = [root / "images" / split, root / "images", root, root / split]
    return next((folder for folder in folders if names and (folder / names[0]).is_file()), folders[0])


def rank_of(item: dict[str, Any]) -> Any:
    """Return the rank of an annotation; a number as text, which annotation tools export, as a number."""
    attributes = item.get("attributes")
    rank = item.get("rank", attributes.get("rank") if isinstance(attributes, dict) else None)
    try:
        return float(rank) if isinstance(rank, str) else rank
    except ValueError:
        return rank


def _coco_entries(
    root: Path, split: str, log: IssueLog, file: Path | None = None, folder: Path | None = None
) -> Iterator[RawImage]:
    file = file or coco_file(root, split)
    content = json_file(file, "images", "annotations")
    info = content.get("info")
    order = info.get("rank_order", HIGHER) if isinstance(info, dict) else HIGHER
    if order not in (HIGHER, LOWER):
        detail = expected(f'"{HIGHER}" or "{LOWER}"', order)
        raise DatasetError(f"{file}: field info.rank_order: {detail}")
    sign = 1 if order == HIGHER else -1

    by_id: dict[int, tuple[dict[str, Any], list[RawObject]]] = {}
    for index, entry in enumerate(content["images"]):
        place, image_id = log.at(file, f"images[{index}]"), None
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str) and entry["file_name"]:
            image_id = whole(entry.get("id"))
        if image_id is None:
            place.fault("bad-record", "id, file_name", expected("a whole id and a file_name", entry))
        elif image_id in by_id:
            place.fault("duplicate-id", "id", f"expected different ids, found {image_id} a second time")
        else:
            by_id[image_id] = (entry, [])
    places = {
        image_id: log.at(file, f"image {image_id} ({entry['file_name']})")
        for image_id, (entry, _) in by_id.items()
    }
    seen: set[int] = set()
    for index, item in enumerate(content["annotations"]):
        field, here = f"annotations[{index}]", log.at(file, f"annotations[{index}]")
        image_id = whole(item.get("image_id")) if isinstance(item, dict) else None
        if image_id is None or image_id not in by_id:
            here.fault("bad-object", "image_id", expected("the id of an image", image_id))
            continue
        number = whole(item.get("id"))
        if log.collect and number in seen:  # only COCO's own tools need different ids
            here.fault("duplicate-id", "id", f"expected different ids, found {number} a second time")
        if number is not None:
            seen.add(number)
        found = ranked_object(
            item, rank_of(item), field, f"{field}.rank", places[image_id], label=whole(item.get("label"))
        )
        if found is not None:
            found.rank = None if found.rank is None else sign * found.rank
            by_id[image_id][1].append(found)

    folder = folder or _image_folder(root, split, [entry["file_name"] for entry, _ in by_id.values()])
    for image_id, (entry, objects) in by_id.items():
        yield RawImage(
            str(folder / entry["file_name"]),
            places[image_id],
            image_id,
            objects,
            claimed_size(entry),
            sign,
            0 if order == HIGHER else 1,
        )


COCO = Format(_coco_entries, lambda root, split: [coco_file(root, split)], rank_field="annotations[].rank")
SEQRANK = Format(
    _seqrank_entries,
    lambda root, split: [seqrank_file(root, split), root / "images" / split],
    image_field="image_name",
    rank_field="annotations[].category_id",
)


def read_coco_file(
    file: Path,
    root: Path,
    split: str = "",
    *,
    images: Path | None = None,
    keep_rankless: bool = False,
    issues: IssueLog | None = None,
) -> list[ImageRecord]:
    """Read one COCO file with ranks, at any place.

    Args:
        file: the JSON file.
        root: folder below which images are looked for.
        split: also looked for as a folder of images.
        images: folder that file names refer to (None: found below ``root``).
        keep_rankless, issues: as for ``Format.read``.

    Raises:
        DatasetError: something is missing or broken; the message names file, record and field.
    """
    entries = partial(_coco_entries, file=file, folder=images)
    return replace(COCO, entries=entries).read(root, split, keep_rankless=keep_rankless, issues=issues)
