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

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..restricted_pickle import load_pickle
from .images import image_finder
from .issues import DatasetError, IssueLog, Place, expected
from .masks import as_int
from .reader import (
    Format,
    RawImage,
    RawObject,
    claimed_size,
    file_content,
    json_file,
    last_part,
    named_entries,
    ranked_object,
    same_count,
)
from .record import ImageRecord

HIGHER, LOWER = "higher is more salient", "lower is more salient"


def _seqrank_entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    data = json_file(file, "data")["data"]
    find = image_finder(root / "images" / split)
    for index, name, place, entry in named_entries(data, file, "image_name", log, "annotations"):
        objects = []
        for number, item in enumerate(entry["annotations"]):
            rank = as_int(item.get("category_id")) if isinstance(item, dict) else None
            field = f"annotations[{number}]"
            if rank is None or rank < 0:
                place.fault("bad-ranks", field, expected("a whole number of at least 0 in category_id", item))
            else:  # the box is not read: it is that of the mask
                mask = {"segmentation": item.get("segmentation")}
                objects.append(RawObject(mask, field, rank or None))
        yield RawImage(find(name), place, index, objects, claimed_size(entry), first_rank=1)


def _folder_with(name: str, folders: list[Path]) -> Path:
    """Return the first folder that holds an image, else the first that exists, else the first."""
    return min(folders, key=lambda folder: (not os.path.isfile(folder / name), not folder.is_dir()))


def image_folder(root: Path, split: str, names: list[str]) -> Path:
    """Return the folder that the file names of a COCO file refer to."""
    folders = [root / "images" / split, root / "images", root, root / split]
    return _folder_with("".join(names[:1]), folders)


def rank_order(content: dict[str, Any], file: Path) -> str | None:
    """Return ``HIGHER``, ``LOWER`` or None as ``info.rank_order`` says, or raise ``DatasetError``."""
    info = content.get("info")
    order = info.get("rank_order") if isinstance(info, dict) else None
    if order not in (None, HIGHER, LOWER):
        detail = expected(f'"{HIGHER}" or "{LOWER}"', order)
        raise DatasetError(f"{file}: field info.rank_order: {detail}")
    return order


def _text_as_number(value: Any) -> Any:
    """Return the number that a text holds; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def rank_of(item: dict[str, Any]) -> Any:
    """Return the rank of an annotation; some annotation tools write it as text."""
    attributes = item.get("attributes")
    return _text_as_number(item.get("rank", attributes.get("rank") if isinstance(attributes, dict) else None))


def _coco_entries(
    root: Path, file: Path, split: str, log: IssueLog, folder: Path | None = None
) -> list[RawImage]:
    content = json_file(file, "images", "annotations")
    sign = -1 if rank_order(content, file) == LOWER else 1
    first_rank = 0 if sign == 1 else 1

    by_id: dict[int, RawImage] = {}
    for _, name, place, entry in named_entries(content["images"], file, "file_name", log):
        image_id = as_int(entry.get("id"))
        if image_id is None:
            place.fault("bad-record", "id", expected("a whole number", entry.get("id")))
        elif image_id in by_id:
            place.fault("duplicate-id", "id", f"expected different ids, found {image_id} a second time")
        else:
            by_id[image_id] = RawImage(name, place, image_id, [], claimed_size(entry), sign, first_rank)
    seen: set[int] = set()
    for index, item in enumerate(content["annotations"]):
        field, here = f"annotations[{index}]", log.at(file, f"annotations[{index}]")
        image_id = as_int(item.get("image_id")) if isinstance(item, dict) else None
        if image_id is None or image_id not in by_id:
            here.fault("bad-object", "image_id", expected("the id of an image", image_id))
            continue
        number, label = as_int(item.get("id")), as_int(item.get("label"))
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
    file: Path, root: Path, split: str = "", *, images: Path | None = None, **options: Any
) -> list[ImageRecord]:
    """Read one COCO file with ranks, at any place, as ``Format.read`` does.

    Args:
        file: the JSON file.
        root: folder below which images are looked for.
        split: also looked for as a folder of images.
        images: folder that file names refer to (None: found below ``root``).
        options: ``keep_rankless`` and ``issues`` of ``Format.read``.
    """
    here = replace(COCO, entries=partial(_coco_entries, folder=images))
    return here.read(root, split, file=file, **options)


def _objects(annotations: Sequence[Any], ranks: Sequence[Any], field: str, place: Place) -> list[RawObject]:
    """Return the objects of COCO annotations and their ranks; ``field`` says where rank {} stands."""
    objects = [
        ranked_object(item, rank, f"annotations[{index}]", field.format(index), place)
        for index, (item, rank) in enumerate(zip(annotations, ranks, strict=True))
    ]
    return [item for item in objects if item is not None]


def _irsr_entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    folder, folders = None, [root / "Images" / split / part for part in ("rgb", "image")]
    try:
        content = load_pickle(file_content(file))
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{file}: found {error}") from error
    if not isinstance(content, list):
        raise DatasetError(f"{file}: {expected('a list of images', content)}")
    for index, path, place, entry in named_entries(content, file, "file_name", log, "annotations", "rank"):
        if same_count(entry["rank"], entry["annotations"], "rank", place):
            name = last_part(path)
            folder = folder or _folder_with(name, folders)
            objects = _objects(entry["annotations"], entry["rank"], "rank[{}]", place)
            yield RawImage(str(folder / name), place, index, objects)


def _sifr_entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    for _, path, place, entry in named_entries(json_file(file), file, "file_name", log, "annotations"):
        annotations, image_id = entry["annotations"], as_int(_text_as_number(entry.get("image_id")))
        if image_id is None:
            place.fault("bad-record", "image_id", expected("a whole number", entry.get("image_id")))
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
    _irsr_entries, "Annotations/{split}.pkl", ("Images/{split}/rgb|Images/{split}/image",), rank_field="rank"
)
SIFR = Format(
    _sifr_entries, "{split}/{split}_annotations.json", ("{split}/rgb",), rank_field="annotations[].gt_rank"
)
