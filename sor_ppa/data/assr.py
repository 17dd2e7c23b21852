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

from .checks import clean_segmentation, is_number, json_file, number_box, shown, sizes_of
from .faults import DatasetError, FaultSink
from .record import UNRANKED, ImageRecord, ObjectRecord, dense_ranks

__all__ = ["SALIENT_ABOVE", "SPLITS", "assr_label", "read_assr"]

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
SALIENT_ABOVE = 0.5


def assr_label(value: float) -> int | None:
    """Published training label of an ASSR rank value: trunc(10 value - 6) above 0.5.

    Args:
        value: rank value, at most 1.

    Returns:
        4 for 1.0, 3 for 0.9, ... 0 for (0.5, 0.7); None for objects that are not salient.
    """
    return int(value * 10 - 6) if value > SALIENT_ABOVE else None


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
        if not is_number(value) or value > 1:
            detail = f"found {shown(value)}, expected a number of at most 1.0"
            sink.serious("bad-ranks", path, record, f"rank_order[{index}]", detail)
            return None
    return values


def _objects(
    data: list[Any], values: list[float], keep_rankless: bool, place: tuple[Path, str], sink: FaultSink
) -> tuple[ObjectRecord, ...]:
    file, record = place
    kept = []
    for index, (item, value) in enumerate(zip(data, values, strict=True)):
        label = assr_label(value)
        if label is None and not keep_rankless:
            continue
        field = f"object_data[{index}]"
        if not isinstance(item, dict):
            sink.serious("bad-object", file, record, field, f"found {shown(item)}, expected an object")
            continue
        box = number_box(item.get("bbox"))
        if box is None:
            detail = f"found {shown(item.get('bbox'))}, expected four numbers x1, y1, x2, y2"
            sink.serious("bad-box", file, record, f"{field}.bbox", detail)
            continue
        mask = clean_segmentation(item.get("segmentation"), None, sink, file, record, f"{field}.segmentation")
        if mask is not None:
            kept.append((box, mask, value, label))
    ranks = dense_ranks([value for _, _, value, label in kept if label is not None])
    order = iter(ranks)
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
    file = root / f"obj_seg_data_{split}.json"
    entries = json_file(file)
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: found {shown(entries)}, expected a list of images")

    names: list[str] = []
    places: list[str] = []
    parsed: list[tuple[ObjectRecord, ...]] = []
    folder, ranks = root / "images" / split, root / "rank_order" / split
    for index, entry in enumerate(entries):
        name = entry.get("img") if isinstance(entry, dict) else None
        place = f"{index} ({name})"
        if not isinstance(name, str) or not name:
            sink.serious("bad-record", file, str(index), "img", f"found {shown(name)}, expected a name")
            continue
        data = entry.get("object_data")
        if not isinstance(data, list):
            sink.serious("bad-record", file, place, "object_data", f"found {shown(data)}, expected a list")
            continue
        values = _rank_values(ranks / f"{name}.json", len(data), place, sink)
        if values is None:
            continue
        names.append(str(folder / f"{name}.jpg"))
        places.append(place)
        parsed.append(_objects(data, values, keep_rankless, (file, place), sink))

    sizes = sizes_of(names, places, file, "img", sink)
    sink.summarise()
    records: list[ImageRecord] = []
    for path, size, objects in zip(names, sizes, parsed, strict=True):
        if size is not None:
            records.append(ImageRecord(path, size[0], size[1], objects, len(records)))
    logger.info("read %d images of %s from %s", len(records), split, root)
    return records
