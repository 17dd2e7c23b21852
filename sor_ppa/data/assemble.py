"""From what a reader has parsed to records: sizes, ids, checks that all formats share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .checks import clean_segmentation, number_box, shown, sizes_of
from .faults import FaultSink
from .record import ImageRecord, ObjectRecord, Segmentation, segmentation_box

__all__ = ["Draft", "Place", "assemble", "boxed_mask", "note_ranks"]


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
        records.append(ImageRecord(draft.path, size[0], size[1], draft.objects, image_id))
    return records


def boxed_mask(
    item: Any, place: Place, field: str, sink: FaultSink, *, xywh: bool, size: tuple[int, int] | None = None
) -> tuple[tuple[float, float, float, float], Segmentation] | None:
    """Box (XYXY) and mask of a COCO-like annotation; None (and a fault) where it has no usable mask.

    Args:
        item: the annotation; without a ``bbox`` the box is taken from the mask.
        place, field: where it stands.
        sink: where faults go.
        xywh: whether ``bbox`` is x, y, width, height (else x1, y1, x2, y2).
        size: (height, width) of the image, if known.
    """
    if not isinstance(item, dict):
        sink.serious(
            "bad-object", place.file, place.record, field, f"found {shown(item)}, expected an object"
        )
        return None
    name = f"{field}.segmentation"
    mask = clean_segmentation(item.get("segmentation"), size, sink, place.file, place.record, name)
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
