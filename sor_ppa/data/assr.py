"""Reader of the ASSR dataset (Attention Shift Ranks, CVPR 2020) as published.

Layout of the folder::

    images/{split}/NAME.jpg           photographs (640 x 480 in the published set, any size here)
    gt/{split}/NAME.png               painted rank maps (not read here)
    rank_order/{split}/NAME.json      {"rank_order": [value of each object]}
    obj_seg_data_{split}.json         [{"img": NAME, "object_data": [{"bbox", "segmentation"}, ...]}, ...]
    {split}_images.txt                names, one a line (not needed to read the set)

An object is salient if its value exceeds 0.5; from the most salient down, the values are 1.0, 0.9,
0.8, 0.7, 0.6. Order and image ids are those of the object file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from .assemble import Draft, Place, assemble, boxed_mask, image_finder, note_ranks
from .checks import is_number, json_file, shown
from .faults import DatasetError, FaultSink
from .record import UNRANKED, ImageRecord, ObjectRecord, dense_ranks

__all__ = ["SALIENT_ABOVE", "SPLITS", "assr_file", "assr_label", "assr_rank_files", "read_assr"]

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SALIENT_ABOVE = 0.5
_TOLERANCE = 1e-5
"""Values that have been float32 are a little more or less than tenths."""


def assr_file(root: Path, split: str) -> Path:
    """Object file of a split of ASSR."""
    return root / f"obj_seg_data_{split}.json"


def assr_rank_files(root: Path, split: str) -> Path:
    """Folder of the rank files of a split of ASSR."""
    return root / "rank_order" / split


def assr_label(value: float) -> int | None:
    """Published training label of an ASSR rank value: trunc(10 value - 6) above 0.5.

    Args:
        value: rank value, at most 1.

    Returns:
        4 for 1.0, 3 for 0.9, ... 0 for (0.5, 0.7); None for objects that are not salient.
    """
    return int(value * 10 - 6 + _TOLERANCE) if value > SALIENT_ABOVE else None


def _rank_values(path: Path, count: int, record: str, sink: FaultSink) -> list[float] | None:
    try:
        content = json_file(path)
    except DatasetError as error:
        detail = str(error).removeprefix(f"{path}: ")
        sink.serious("bad-rank-file", path, record, "", detail)
        return None
    values = content.get("rank_order") if isinstance(content, dict) else None
    if not isinstance(values, list):
        expected = f"expected a list of {count} numbers"
        sink.serious("bad-ranks", path, record, "rank_order", f"found {shown(values)}, {expected}")
        return None
    if len(values) != count:
        detail = f"found {len(values)} values, expected {count} (one for each object)"
        sink.serious("rank-count", path, record, "rank_order", detail)
        return None
    for index, value in enumerate(values):
        if not is_number(value) or value > 1 + _TOLERANCE:
            detail = f"found {shown(value)}, expected a number of at most 1.0"
            sink.serious("bad-ranks", path, record, f"rank_order[{index}]", detail)
            return None
    return values


def _objects(
    data: list[Any], values: list[float], keep_rankless: bool, place: Place, sink: FaultSink
) -> tuple[ObjectRecord, ...]:
    kept = []
    for index, (item, value) in enumerate(zip(data, values, strict=True)):
        label = assr_label(value)
        if label is None and not keep_rankless:
            continue
        found = boxed_mask(item, place, f"object_data[{index}]", sink, xywh=False)
        if found is not None:
            kept.append((*found, round(value, 5), label))
    salient = [value for _, _, value, label in kept if label is not None]
    note_ranks([round(10 * (1 - value), 6) for value in salient], place, "rank_order (tenths below 1)", sink)
    order = iter(dense_ranks(salient))
    return tuple(
        ObjectRecord(box, mask, UNRANKED if label is None else next(order), False, label)
        for box, mask, _, label in kept
    )


def read_assr(
    root: str | Path, split: str, *, keep_rankless: bool = False, sink: FaultSink | None = None
) -> list[ImageRecord]:
    """Read one split of an ASSR folder. No image is decoded.

    Args:
        root: the folder that holds ``obj_seg_data_{split}.json``.
        split: ``train``, ``val`` or ``test``.
        keep_rankless: keep the objects that are not salient, without a rank (published code and the
            default leave them out).
        sink: collects faults; by default the first serious one raises.

    Returns:
        one record for each entry of the object file, in its order. Objects without a usable polygon
        are left out, with a warning.

    Raises:
        DatasetError: something is missing or broken; the message names file, record and field.
    """
    sink = sink or FaultSink()
    root = Path(root)
    file = assr_file(root, split)
    entries = json_file(file)
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: found {shown(entries)}, expected a list of images")

    drafts = []
    find, ranks = image_finder(root / "images" / split), assr_rank_files(root, split)
    for index, entry in enumerate(entries):
        name = entry.get("img") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            sink.serious("bad-record", file, str(index), "img", f"found {shown(name)}, expected a name")
            continue
        place = Place(file, f"{index} ({name})")
        data = entry.get("object_data")
        if not isinstance(data, list):
            detail = f"found {shown(data)}, expected a list"
            sink.serious("bad-record", file, place.record, "object_data", detail)
            continue
        values = _rank_values(ranks / f"{name}.json", len(data), place.record, sink)
        if values is not None:
            objects = _objects(data, values, keep_rankless, place, sink)
            drafts.append(Draft(find(name), place, objects, index))
    records = assemble(drafts, "img", sink)
    sink.summarise()
    logger.info("read %d images of %s from %s", len(records), split, root)
    return records
