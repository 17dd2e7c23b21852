"""Reader of the ASSR dataset (Attention Shift Ranks, CVPR 2020) as published.

::

    images/{split}/NAME.jpg           photographs (640 x 480 in the published set, any size here)
    rank_order/{split}/NAME.json      {"rank_order": [value of each object]}
    obj_seg_data_{split}.json         [{"img": NAME, "object_data": [{"bbox", "segmentation"}, ...]}, ...]

An object is salient if its value exceeds 0.5. From the most salient object down, the values are 1.0, 0.9,
0.8, 0.7, 0.6. Order and image ids are those of the object file; other files are not read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .images import image_finder, in_threads
from .issues import DatasetError, IssueLog, Place, expected
from .masks import is_number
from .reader import Format, RawImage, RawObject, json_file, named_entries, same_count

SPLITS = ("train", "val", "test")
SALIENT_ABOVE = 0.5
_TOLERANCE = 1e-5  # values that have been float32 differ a little from tenths


def assr_label(value: float) -> int | None:
    """Return the published training label of a rank value: trunc(10 value - 6); None up to 0.5."""
    return int(value * 10 - 6 + _TOLERANCE) if value > SALIENT_ABOVE else None


def _rank_values(
    content: dict[str, Any] | DatasetError, objects: Sequence[Any], place: Place
) -> list[float] | None:
    """Return the rank values of a rank file, or None (and an issue) if they are unusable."""
    if isinstance(content, DatasetError):
        place.fault("bad-rank-file", "", str(content).removeprefix(f"{place.file}: "))
        return None
    values: list[float] = content["rank_order"]
    if not same_count(values, objects, "rank_order", place):
        return None
    for index, value in enumerate(values):
        if not is_number(value) or value > 1 + _TOLERANCE:
            place.fault("bad-ranks", f"rank_order[{index}]", expected("a number of at most 1.0", value))
            return None
    return values


def _assr_entries(root: Path, file: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    entries = list(named_entries(json_file(file), file, "img", log, "object_data"))
    rank_files = [root / "rank_order" / split / f"{name}.json" for _, name, _, _ in entries]
    find = image_finder(root / "images" / split)
    ranks = in_threads(lambda path: json_file(path, "rank_order"), rank_files, DatasetError)
    for (index, name, place, entry), path, content in zip(entries, rank_files, ranks, strict=True):
        data = entry["object_data"]
        values = _rank_values(content, data, log.at(path, place.record))
        if values is None:
            continue
        objects = []
        for number, (item, value) in enumerate(zip(data, values, strict=True)):
            label = assr_label(value)  # ranks count tenths below 1, so that values that were float32 tie
            rank = None if label is None else round(10 * value - 10, 4)
            objects.append(RawObject(item, f"object_data[{number}]", rank, label=label))
        yield RawImage(find(name), place, index, objects, rank_sign=-1)


ASSR = Format(
    _assr_entries,
    "obj_seg_data_{split}.json",
    ("rank_order/{split}", "images/{split}"),
    image_field="img",
    rank_field="rank_order (tenths below 1)",
    xywh=False,
)
read_assr = ASSR.read
