"""Validation of a dataset: everything wrong with it at once, not the first thing only."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from .assr import SPLITS
from .builtin import DatasetSource
from .faults import DatasetError, Fault, FaultSink
from .formats import FORMATS
from .record import ImageRecord, ObjectRecord, segmentation_box

__all__ = ["check_dataset", "record_faults"]

_EDGE = 1.0  # pixels by which boxes may pass the border: some tools count pixels, some edges


def check_dataset(source: DatasetSource, *, decode: bool = True) -> tuple[list[ImageRecord], list[Fault]]:
    """All faults of a dataset.

    Args:
        source: which.
        decode: also decode every image (finds truncated files; slower).

    Returns:
        the records that can be used, and the faults: missing or unreadable images, sizes that
        disagree, unusable or degenerate polygons, boxes outside or apart from their masks, ids and
        files that occur twice, ranks that tie or skip, images that another split has as well.
    """
    sink = FaultSink(collect=True)
    try:
        records = source.read(sink, keep_rankless=True)
    except DatasetError as error:
        return [], [*sink.faults, Fault("unreadable-dataset", str(error))]
    faults = list(sink.faults)
    faults += record_faults(records)
    faults += _list_faults(source, records)
    if decode:
        faults += _decoding_faults(records)
    faults += _shared_images(source, records)
    return records, faults


def record_faults(records: Sequence[ImageRecord]) -> Iterator[Fault]:
    """Faults that show in the records alone: geometry and things that occur twice."""
    ids: dict[int, str] = {}
    files: set[str] = set()
    for record in records:
        name = record.file_name
        if record.image_id in ids:
            detail = f"found {record.image_id}, which {ids[record.image_id]} has as well"
            yield Fault("duplicate-id", name, "", "image_id", detail)
        ids.setdefault(record.image_id, name)
        if name in files:
            yield Fault("duplicate-image", name, "", "", "occurs twice in this split")
        files.add(name)
        if not any(item.rank >= 0 for item in record.objects):
            yield Fault("nothing-ranked", name, "", "", "has no ranked object", serious=False)
        for index, item in enumerate(record.objects):
            yield from _object_faults(record, item, f"object {index}")


def _object_faults(record: ImageRecord, item: ObjectRecord, place: str) -> Iterator[Fault]:
    x1, y1, x2, y2 = item.box
    shown = "[" + ", ".join(f"{value:g}" for value in item.box) + "]"
    if x2 <= x1 or y2 <= y1:
        yield Fault("empty-box", record.file_name, place, "bbox", f"found {shown}, expected x1 < x2, y1 < y2")
        return
    if min(x1, y1) < -_EDGE or x2 > record.width + _EDGE or y2 > record.height + _EDGE:
        detail = f"found {shown}, expected it inside {record.width} x {record.height}"
        yield Fault("box-outside", record.file_name, place, "bbox", detail)
    if isinstance(item.segmentation, list):
        for number, polygon in enumerate(item.segmentation):
            x, y = np.asarray(polygon[0::2]), np.asarray(polygon[1::2])
            area = 0.5 * abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))))
            if area < 0.5:
                detail = f"found an area of {area:.2g} pixels"
                yield Fault("degenerate-polygon", record.file_name, place, f"segmentation[{number}]", detail)
    if item.segmentation is not None:
        tight = segmentation_box(item.segmentation)
        if _overlap(item.box, tight) < 0.5:
            detail = f"found {shown}, but the mask spans [" + ", ".join(f"{v:g}" for v in tight) + "]"
            yield Fault("box-apart-from-mask", record.file_name, place, "bbox", detail)


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """IoU of two boxes, each at least a pixel wide."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [max(box[2] - box[0], 1e-6) * max(box[3] - box[1], 1e-6) for box in (a, b)]
    union = sum(areas) - width * height
    return width * height / union


def _list_faults(source: DatasetSource, records: Sequence[ImageRecord]) -> Iterator[Fault]:
    """Disagreement of ASSR's list of images with its object file."""
    path = source.path / f"{source.split}_images.txt"
    if source.kind != "assr" or not path.is_file():
        return
    listed = [Path(line.strip()).stem for line in path.read_text().splitlines() if line.strip()]
    known = {Path(record.file_name).stem for record in records}
    for name in sorted(set(listed) - known):
        yield Fault("list-differs", str(path), name, "", "is listed but has no record", serious=False)
    for name in sorted(known - set(listed)):
        yield Fault("list-differs", str(path), name, "", "has a record but is not listed", serious=False)


def _decoding_faults(records: Sequence[ImageRecord]) -> Iterable[Fault]:
    from detectron2.data.detection_utils import read_image

    def fault(record: ImageRecord) -> Fault | None:
        try:
            shape = read_image(record.file_name, format="BGR").shape
        except Exception as error:  # decoders raise nearly everything
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return Fault("broken-image", record.file_name, "", "", f"cannot be decoded: {reason}")
        if shape[:2] != (record.height, record.width):
            detail = f"found {shape[0]}x{shape[1]} decoded, but {record.height}x{record.width} in its header"
            return Fault("size-disagrees", record.file_name, "", "", detail)
        return None

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return [found for found in pool.map(fault, records) if found is not None]


def _shared_images(source: DatasetSource, records: Sequence[ImageRecord]) -> Iterator[Fault]:
    """Images whose content another split of the same folder has as well."""
    kind = FORMATS[source.kind]
    own = (path.stem.removeprefix("rank_") for path in (source.path / "annotations").glob("rank_*.json"))
    for split in sorted(own) if source.kind == "coco" else SPLITS:
        if split == source.split or not any(
            Path(path).exists() for path in kind.contents(source.path, split)
        ):
            continue
        try:
            others = kind.read(source.path, split, keep_rankless=True, sink=FaultSink(collect=True))
        except DatasetError:
            continue
        ours, theirs = _by_size(records), _by_size(others)
        for size in sorted(ours.keys() & theirs.keys()):
            content = {_hash(path): path for path in theirs[size]}
            for path in ours[size]:
                twin = content.get(_hash(path))
                if twin is not None:
                    yield Fault("shared-image", path, "", "", f"is the same picture as {twin} of {split}")


def _by_size(records: Sequence[ImageRecord]) -> dict[int, list[str]]:
    sizes = defaultdict(list)
    for record in records:
        sizes[os.stat(record.file_name).st_size].append(record.file_name)
    return sizes


def _hash(path: str) -> bytes:
    with open(path, "rb") as stream:
        return hashlib.blake2b(stream.read(), digest_size=20).digest()
