"""Readers of the formats with COCO annotations: COCO with ranks, SeqRank, IRSR and SIFR.

::

    COCO      annotations/rank_{split}.json    COCO, with ``rank`` (or ``attributes.rank``) in annotations
              images/{split}/, images/ or .    photographs
    SeqRank   {name}_{split}.json              {"data": [{"image_name", "height", "width", "annotations"}]}
              or seqrank_{split}.json
              images/{split}/                  image_name + ".jpg"; {name} is the folder's in lower case
    IRSR      Annotations/{train,test}.pkl     [{"file_name", "annotations", "rank": [...]}]
              Images/{split}/rgb/ or image/    photographs
    SIFR      {split}/{split}_annotations.json [{"file_name", "image_id", "annotations"}], with ``gt_rank``
              {split}/rgb/                     photographs

Higher ranks are more salient, unless a COCO file says "lower is more salient" in ``info.rank_order``. An
annotation without a rank (SeqRank: ``category_id`` 0) is not salient. ``label`` (optional, COCO) is the
label that published code trains on. IRSR and SIFR name images by paths of other machines, of which the last
part counts.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..restricted_pickle import load_pickle
from .images import image_finder
from .issues import DatasetError, IssueLog, Place, expected
from .masks import whole
from .reader import (
    Format,
    RawImage,
    RawObject,
    claimed_size,
    entry_list,
    file_content,
    json_file,
    last_part,
    named_entries,
    ranked_object,
)
from .record import ImageRecord

HIGHER, LOWER = "higher is more salient", "lower is more salient"


def _seqrank_entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
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


def image_folder(root: Path, split: str, names: list[str]) -> Path:
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
    root: Path, file: Path, split: str, log: IssueLog, folder: Path | None = None
) -> list[RawImage]:
    content = json_file(file, "images", "annotations")
    info = content.get("info")
    order = info.get("rank_order", HIGHER) if isinstance(info, dict) else HIGHER
    if order not in (HIGHER, LOWER):
        detail = expected(f'"{HIGHER}" or "{LOWER}"', order)
        raise DatasetError(f"{file}: field info.rank_order: {detail}")
    sign, first_rank = (1, 0) if order == HIGHER else (-1, 1)

    by_id: dict[int, RawImage] = {}
    for index, entry in enumerate(content["images"]):
        place, name = log.at(file, f"images[{index}]"), None
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
            name = entry["file_name"]
        image_id = whole(entry.get("id")) if name else None
        if name is None or image_id is None:
            place.fault("bad-record", "id, file_name", expected("a whole id and a file_name", entry))
        elif image_id in by_id:
            place.fault("duplicate-id", "id", f"expected different ids, found {image_id} a second time")
        else:
            here, size = log.at(file, f"image {image_id} ({name})"), claimed_size(entry)
            by_id[image_id] = RawImage(name, here, image_id, [], size, sign, first_rank)
    seen: set[int] = set()
    for index, item in enumerate(content["annotations"]):
        field, here = f"annotations[{index}]", log.at(file, f"annotations[{index}]")
        image_id = whole(item.get("image_id")) if isinstance(item, dict) else None
        if image_id is None or image_id not in by_id:
            here.fault("bad-object", "image_id", expected("the id of an image", image_id))
            continue
        number, label = whole(item.get("id")), whole(item.get("label"))
        if log.collect and number in seen:  # only COCO's own tools need different ids
            here.fault("duplicate-id", "id", f"expected different ids, found {number} a second time")
        if number is not None:
            seen.add(number)
        image = by_id[image_id]
        found = ranked_object(item, rank_of(item), field, f"{field}.rank", image.place, label)
        if found is not None:
            found.rank = None if found.rank is None else sign * found.rank
            image.objects.append(found)

    folder = folder or image_folder(root, split, [image.path for image in by_id.values()])
    for image in by_id.values():
        image.path = str(folder / image.path)
    return list(by_id.values())


def read_coco_file(
    file: Path,
    root: Path,
    split: str = "",
    *,
    images: Path | None = None,
    keep_rankless: bool = False,
    issues: IssueLog | None = None,
) -> list[ImageRecord]:
    """Read one COCO file with ranks, at any place, as ``Format.read`` does.

    Args:
        file: the JSON file.
        root: folder below which images are looked for.
        split: also looked for as a folder of images.
        images: folder that file names refer to (None: found below ``root``).
        keep_rankless, issues: as for ``Format.read``.
    """
    here = replace(COCO, entries=partial(_coco_entries, folder=images))
    return here.read(root, split, keep_rankless=keep_rankless, issues=issues, file=file)


def irsr_images(root: Path, split: str, name: str = "") -> Path:
    """Return the folder of IRSR's images, ``rgb`` or ``image``; if both exist, that with image ``name``."""
    folders = [root / "Images" / split / part for part in ("rgb", "image")]
    present = [folder for folder in folders if folder.is_dir()] or folders[:1]
    return next((folder for folder in present if name and (folder / name).is_file()), present[0])


def _objects(annotations: list[Any], ranks: list[Any], field: str, place: Place) -> list[RawObject]:
    """Return the objects of COCO annotations and their ranks; ``field`` says where rank {} stands."""
    objects = [
        ranked_object(item, rank, f"annotations[{index}]", field.format(index), place)
        for index, (item, rank) in enumerate(zip(annotations, ranks, strict=True))
    ]
    return [item for item in objects if item is not None]


def _irsr_entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    folder = None
    try:
        content = load_pickle(file_content(file))
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{file}: found {error}") from error
    if not isinstance(content, list):
        raise DatasetError(f"{file}: {expected('a list of images', content)}")
    for index, path, place, entry in named_entries(content, file, "file_name", log):
        annotations, ranks = entry_list(entry, "annotations", place), entry_list(entry, "rank", place)
        if annotations is None or ranks is None:
            continue
        if len(annotations) != len(ranks):
            detail = f"expected {len(annotations)} ranks (one for each annotation), found {len(ranks)}"
            place.fault("rank-count", "rank", detail)
            continue
        name = last_part(path)
        folder = folder or irsr_images(root, split, name)
        objects = _objects(annotations, ranks, "rank[{}]", place)
        yield RawImage(str(folder / name), place, index, objects)


def _sifr_entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    for _, path, place, entry in named_entries(json_file(file), file, "file_name", log):
        annotations, given = entry_list(entry, "annotations", place), entry.get("image_id")
        if annotations is None:
            continue
        if isinstance(given, str) and given.isascii() and given.isdigit():
            given = int(given)
        image_id = whole(given)
        if image_id is None:
            place.fault("bad-record", "image_id", expected("a whole number", given))
            continue
        ranks = [item.get("gt_rank") if isinstance(item, dict) else None for item in annotations]
        objects = _objects(annotations, ranks, "annotations[{}].gt_rank", place)
        yield RawImage(str(root / split / "rgb" / last_part(path)), place, image_id, objects)


COCO = Format(_coco_entries, "annotations/rank_{split}.json", rank_field="annotations[].rank")
SEQRANK = Format(
    _seqrank_entries,
    "{name}_{split}.json|seqrank_{split}.json",
    ("images/{split}",),
    image_field="image_name",
    rank_field="annotations[].category_id",
)
IRSR = Format(
    _irsr_entries,
    "Annotations/{split}.pkl",
    ("Images/{split}/rgb|Images/{split}/image",),
    rank_field="rank",
)
SIFR = Format(
    _sifr_entries,
    "{split}/{split}_annotations.json",
    ("{split}/rgb",),
    rank_field="annotations[].gt_rank",
)
