"""Validation of a dataset: all of its issues at once."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.structures import Boxes, pairwise_iou

from ..tar_members import file_size, read_file
from .assr import SPLITS
from .builtin import FORMATS, DatasetSource
from .images import decoded_image, in_threads
from .issues import DatasetError, Issue, IssueLog
from .masks import segmentation_box
from .record import ImageRecord, ObjectRecord

_EDGE = 1.0  # pixels by which boxes may cross the border: some tools count pixels, some edges


def check_dataset(source: DatasetSource, *, decode: bool = True) -> tuple[list[ImageRecord], list[Issue]]:
    """Return the records of a dataset that can be used, and all of its issues.

    Issues are missing or unreadable images, sizes that disagree, unusable or degenerate polygons, boxes
    outside the image or apart from their masks, ids and files that occur twice, ranks that tie or skip, and
    images that another split has as well. ``decode`` also finds truncated images; slower.
    """
    log = IssueLog(collect=True)
    try:
        records = source.read(log, keep_rankless=True)
    except DatasetError as error:
        return [], [*log.issues, Issue("unreadable-dataset", str(error))]
    issues = [*log.issues, *_record_issues(records), *_list_issues(source, records)]
    if decode:
        shapes = in_threads(lambda record: decoded_image(record.file_name).shape[:2], records, DatasetError)
        issues += _decoding_issues(records, shapes)
    return records, [*issues, *_shared_images(source, records)]


def _record_issues(records: Sequence[ImageRecord]) -> Iterator[Issue]:
    """Yield issues that show in the records alone: geometry, and ids and files that occur twice."""
    ids: dict[int, str] = {}
    files: set[str] = set()
    for record in records:
        name = record.file_name
        if record.image_id in ids:
            found = f"{record.image_id}, which {ids[record.image_id]} has as well"
            yield Issue("duplicate-id", name, "", "image_id", f"expected different ids, found {found}")
        ids.setdefault(record.image_id, name)
        if name in files:
            yield Issue("duplicate-image", name, detail="expected different images, found this one twice")
        files.add(name)
        if not any(item.rank >= 0 for item in record.objects):
            yield Issue("nothing-ranked", name, detail="expected a ranked object, found none", serious=False)
        for index, item in enumerate(record.objects):
            yield from _object_issues(record, item, f"object {index}")


def _object_issues(record: ImageRecord, item: ObjectRecord, place: str) -> Iterator[Issue]:
    """Yield issues of the geometry of an object."""
    x1, y1, x2, y2 = item.box
    found = f"found {_box_text(item.box)}"
    if x2 <= x1 or y2 <= y1:
        yield Issue("empty-box", record.file_name, place, "bbox", f"expected x1 < x2 and y1 < y2, {found}")
        return
    if min(x1, y1) < -_EDGE or x2 > record.width + _EDGE or y2 > record.height + _EDGE:
        detail = f"expected a box inside {record.width} x {record.height}, {found}"
        yield Issue("box-outside", record.file_name, place, "bbox", detail)
    if isinstance(item.segmentation, list):
        for number, polygon in enumerate(item.segmentation):
            if (area := cv2.contourArea(np.array(polygon, np.float32).reshape(-1, 2))) < 0.5:
                detail = f"expected an area of at least half a pixel, found {area:.2g}"
                yield Issue("degenerate-polygon", record.file_name, place, f"segmentation[{number}]", detail)
    if item.segmentation is not None:
        tight = segmentation_box(item.segmentation)
        if pairwise_iou(Boxes([item.box]), Boxes([tight])).item() < 0.5:
            detail = f"expected about {_box_text(tight)} as the mask has, {found}"
            yield Issue("box-apart-from-mask", record.file_name, place, "bbox", detail)


def _box_text(box: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in box) + "]"


def _list_issues(source: DatasetSource, records: Sequence[ImageRecord]) -> Iterator[Issue]:
    """Yield names in which ASSR's list of images and its object file differ."""
    path = source.path / f"{source.split}_images.txt"
    if source.kind != "assr" or not path.is_file():
        return
    listed = {Path(line.strip()).stem for line in path.read_text().splitlines() if line.strip()}
    known = {Path(record.file_name).stem for record in records}
    for name in sorted(listed ^ known):
        what = "is listed but has no record" if name in listed else "is not listed"
        yield Issue("list-differs", str(path), name, "", what, serious=False)


def _decoding_issues(records: Sequence[ImageRecord], shapes: Sequence[Any]) -> Iterator[Issue]:
    """Yield images that cannot be decoded (the shape is the error) or differ in size from their header."""
    for record, shape in zip(records, shapes, strict=True):
        if isinstance(shape, DatasetError):
            detail = str(shape).removeprefix(f"{record.file_name}: ")
            yield Issue("broken-image", record.file_name, detail=detail)
        elif shape != (record.height, record.width):
            detail = f"expected {record.height}x{record.width} as in the header, found {shape[0]}x{shape[1]}"
            yield Issue("size-disagrees", record.file_name, detail=detail)


def _shared_images(source: DatasetSource, records: Sequence[ImageRecord]) -> Iterator[Issue]:
    """Yield images whose file content another split of the same folder has as well."""
    form = FORMATS[source.kind]
    splits: Sequence[str] = SPLITS
    if source.kind == "coco":
        files = sorted((source.path / "annotations").glob("rank_*.json"))
        splits = [file.stem.removeprefix("rank_") for file in files]
    ours = _by_size(records)
    for split in splits:
        if split == source.split or not form.path(source.path, split).exists():
            continue
        try:
            others = form.read(source.path, split, keep_rankless=True, issues=IssueLog(collect=True))
        except DatasetError:
            continue
        theirs = _by_size(others)
        for size in sorted(ours.keys() & theirs.keys()):
            content = {_hash(path): path for path in theirs[size]}
            for path in ours[size]:
                if (twin := content.get(_hash(path))) is not None:
                    yield Issue("shared-image", path, detail=f"has the content of {twin} of {split}")


def _by_size(records: Sequence[ImageRecord]) -> dict[int, list[str]]:
    """Return the image files by their size in bytes."""
    sizes = defaultdict(list)
    for record in records:
        sizes[file_size(record.file_name)].append(record.file_name)
    return sizes


def _hash(path: str) -> bytes:
    return hashlib.blake2b(read_file(path)).digest()
