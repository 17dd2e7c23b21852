"""From what a reader has parsed to records: sizes, ids, checks that all formats share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .checks import clean_segmentation, number_box, shown, sizes_of
from .faults import FaultSink
from .record import UNRANKED, ImageRecord, ObjectRecord, Segmentation, dense_ranks, segmentation_box

__all__ = ["Draft", "Place", "assemble", "boxed_mask", "image_finder", "note_ranks"]

_OTHER_SUFFIXES = ("", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands, for messages: the file and which record of it."""

    file: Path
    record: str


@dataclass(slots=True)
class Draft:
    """An image whose size is not known yet.

    Attributes:
        path: image file.
        place: where the record stands.
        objects: its objects.
        image_id: None: number of the record.
        size: (height, width) that the annotation file claims, if it does.
    """

    path: str
    place: Place
    objects: tuple[ObjectRecord, ...]
    image_id: int | None = None
    size: tuple[int, int] | None = None


def assemble(drafts: Sequence[Draft], field: str, sink: FaultSink) -> list[ImageRecord]:
    """Records of the drafts whose images can be read, in order.

    The size of an image is that of its header; a claim that disagrees is a mild fault.

    Args:
        drafts: images in the order of the dataset.
        field: the field that names the image, for messages.
        sink: where faults go.

    Raises:
        DatasetError: an image is missing or broken, unless faults are being collected.
    """
    if not drafts:
        return []
    file = drafts[0].place.file
    sizes = sizes_of([draft.path for draft in drafts], [d.place.record for d in drafts], file, field, sink)
    records = []
    for index, (draft, size) in enumerate(zip(drafts, sizes, strict=True)):
        if size is None:
            continue
        if draft.size is not None and draft.size != size:
            detail = f"found {draft.size[0]}x{draft.size[1]}, but the image has {size[0]}x{size[1]}"
            sink.mild("size-disagrees", file, draft.place.record, "height, width", detail)
        image_id = index if draft.image_id is None else draft.image_id
        objects = _fitting(draft, size, sink)
        records.append(ImageRecord(draft.path, size[0], size[1], objects, image_id))
    return records


def _fitting(draft: Draft, size: tuple[int, int], sink: FaultSink) -> tuple[ObjectRecord, ...]:
    """The objects whose RLE has the size of the image; a mild fault for each other one."""
    wrong = [
        isinstance(item.segmentation, dict) and tuple(item.segmentation["size"]) != size
        for item in draft.objects
    ]
    if not any(wrong):
        return draft.objects
    for index, (item, bad) in enumerate(zip(draft.objects, wrong, strict=True)):
        if bad and isinstance(item.segmentation, dict):
            found = shown(item.segmentation["size"])
            detail = f"found RLE of size {found}, expected {list(size)} as its image"
            sink.mild("bad-rle", draft.place.file, draft.place.record, f"object {index}", detail)
    kept = [item for item, bad in zip(draft.objects, wrong, strict=True) if not bad]
    order = iter(dense_ranks([item.rank for item in kept if item.rank != UNRANKED]))
    return tuple(replace(item, rank=next(order)) if item.rank != UNRANKED else item for item in kept)


def image_finder(folder: Path) -> Callable[[str], str]:
    """Path of an image in a folder by the name that annotations give it.

    Annotations of ASSR and SeqRank leave out the suffix, which is ``.jpg``; where no such file is there,
    one called ``.JPG``, ``.jpeg`` or ``.png`` will do, and so will a name that has its suffix already.

    Args:
        folder: of the images; it may be absent.
    """
    try:
        present = set(os.listdir(folder))
    except OSError:
        present = set()

    def find(name: str) -> str:
        expected = f"{name}.jpg"
        if expected not in present:
            others = [f"{name}{suffix}" for suffix in _OTHER_SUFFIXES]
            expected = next((other for other in others if other in present), expected)
        return os.path.join(folder, expected)

    return find


def boxed_mask(
    item: Any, place: Place, field: str, sink: FaultSink, *, xywh: bool
) -> tuple[tuple[float, float, float, float], Segmentation] | None:
    """Box (XYXY) and mask of a COCO-like annotation; None (and a fault) where it has no usable mask.

    Args:
        item: the annotation; without a ``bbox`` the box is taken from the mask.
        place, field: where it stands.
        sink: where faults go.
        xywh: whether ``bbox`` is x, y, width, height (else x1, y1, x2, y2).
    """
    if not isinstance(item, dict):
        sink.serious(
            "bad-object", place.file, place.record, field, f"found {shown(item)}, expected an object"
        )
        return None
    name = f"{field}.segmentation"
    mask = clean_segmentation(item.get("segmentation"), sink, place.file, place.record, name)
    if "bbox" in item and item["bbox"] is not None:
        box = number_box(item["bbox"])
        if box is None:
            expected = "x, y, width, height" if xywh else "x1, y1, x2, y2"
            detail = f"found {shown(item['bbox'])}, expected four numbers {expected}"
            sink.serious("bad-box", place.file, place.record, f"{field}.bbox", detail)
            return None
        if xywh:
            box = (box[0], box[1], box[0] + box[2], box[1] + box[3])
    elif mask is None:
        return None
    else:
        box = segmentation_box(mask)
    return None if mask is None else (box, mask)


def note_ranks(
    values: Sequence[float], place: Place, field: str, sink: FaultSink, *, lowest: int = 0
) -> None:
    """Note ranks that tie or skip, for the check command.

    Args:
        values: integer ranks of the ranked objects of one image.
        place, field: where they stand.
        sink: where notes go.
        lowest: the rank that an untroubled list begins with.
    """
    if not sink.collect or not len(values):
        return
    found, counts = np.unique(np.asarray(values), return_counts=True)
    if counts.max() > 1:
        tied = found[counts > 1].tolist()
        sink.note("rank-tie", place.file, place.record, field, f"more than one object has rank {shown(tied)}")
    expected = list(range(lowest, lowest + len(found)))
    if found.tolist() != expected:
        detail = f"found {shown(found.tolist())}, expected {shown(expected)}"
        sink.note("rank-skip", place.file, place.record, field, detail)
