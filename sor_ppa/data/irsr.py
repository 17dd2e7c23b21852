"""Readers of IRSR (TPAMI 2021) and SIFR (CVPR 2024) as published.

IRSR::

    Annotations/{train,test}.pkl       list of {"file_name", "annotations": [...], "rank": [...]}
    Images/{split}/rgb/ or image/      photographs

SIFR::

    {split}/{split}_annotations.json   list of {"file_name", "image_id", "annotations": [...]}
    {split}/rgb/                       photographs

Annotations are COCO's (``bbox`` x, y, width, height; ``segmentation`` polygons or RLE). Ranks are
integers from 0, higher = more salient; SIFR has them in each annotation as ``gt_rank``. File names may
be paths of other machines, of which the last part counts.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..restricted_pickle import load_pickle
from .issues import DatasetError, IssueLog, Place, expected
from .masks import whole
from .reader import (
    Format,
    RawImage,
    RawObject,
    entry_list,
    file_content,
    json_file,
    last_part,
    named_entries,
    ranked_object,
)


def irsr_file(root: Path, split: str) -> Path:
    """Return the annotation file of a split of IRSR."""
    return root / "Annotations" / f"{split}.pkl"


def irsr_images(root: Path, split: str, name: str = "") -> Path:
    """Return the folder of the images of a split of IRSR: ``rgb`` or, in some copies, ``image``.

    Args:
        root: folder of the dataset.
        split: ``train`` or ``test``.
        name: of an image; if both folders exist, the one that holds it is taken.
    """
    folders = [root / "Images" / split / part for part in ("rgb", "image")]
    present = [folder for folder in folders if folder.is_dir()] or folders[:1]
    return next((folder for folder in present if name and (folder / name).is_file()), present[0])


def sifr_file(root: Path, split: str) -> Path:
    """Return the annotation file of a split of SIFR."""
    return root / split / f"{split}_annotations.json"


def ranked_objects(annotations: list[Any], ranks: list[Any], field: str, place: Place) -> list[RawObject]:
    """Return the objects of COCO annotations and their ranks; ``field`` says where rank {} stands."""
    objects = [
        ranked_object(item, rank, f"annotations[{index}]", field.format(index), place)
        for index, (item, rank) in enumerate(zip(annotations, ranks, strict=True))
    ]
    return [item for item in objects if item is not None]


def _irsr_entries(root: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    file, folder = irsr_file(root, split), None
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
        yield RawImage(
            str(folder / name), place, index, ranked_objects(annotations, ranks, "rank[{}]", place)
        )


def _sifr_entries(root: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    file = sifr_file(root, split)
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
        objects = ranked_objects(annotations, ranks, "annotations[{}].gt_rank", place)
        yield RawImage(str(root / split / "rgb" / last_part(path)), place, image_id, objects)


IRSR = Format(
    _irsr_entries, lambda root, split: [irsr_file(root, split), irsr_images(root, split)], rank_field="rank"
)
SIFR = Format(
    _sifr_entries,
    lambda root, split: [sifr_file(root, split), root / split / "rgb"],
    rank_field="annotations[].gt_rank",
)
