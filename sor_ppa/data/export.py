"""Writing of records in every format that can hold them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..atomic import write_json
from ..tar_members import member_of, read_file
from .assr import ASSR
from .coco import COCO, HIGHER, IRSR, SIFR
from .issues import DatasetError
from .masks import mask_to_polygons, plain_mask, segmentation_area, segmentation_mask
from .record import ImageRecord, ObjectRecord

_ASSR_RANKS = 5

Plain = dict[str, Any]
Images = Sequence[tuple[ImageRecord, str]]
"""Records and the names of their images in the folder that is written."""


def _levels_from_top(record: ImageRecord) -> list[int | None]:
    """Return the level of each object (0 = most salient); None if it has no rank."""
    top = max((item.rank for item in record.objects), default=-1)
    return [None if item.rank < 0 else top - item.rank for item in record.objects]


def _polygons(item: ObjectRecord, record: ImageRecord) -> list[list[float]]:
    """Return the polygons of an object; those of an RLE follow the edges of its pixels."""
    if isinstance(item.segmentation, list):
        return item.segmentation
    return mask_to_polygons(segmentation_mask(item.segmentation, record.height, record.width))


def _annotation(item: ObjectRecord) -> Plain:
    """Return box and mask as in COCO."""
    x1, y1, x2, y2 = item.box
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": plain_mask(item.segmentation)}


def _refuse(record: ImageRecord, kind: str, why: str) -> DatasetError:
    return DatasetError(f"{record.file_name}: {kind} cannot hold {why}")


def _write_file(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W) or (H, W, 3), BGR, as a PNG file."""
    _write_file(path, cv2.imencode(".png", image)[1].tobytes())


def coco_content(images: Images) -> Plain:
    """Return a COCO file with ranks."""
    entries: list[Plain] = []
    annotations: list[Plain] = []
    for record, name in images:
        entries.append(
            {"id": record.image_id, "file_name": name, "height": record.height, "width": record.width}
        )
        for item in record.objects:
            annotation: Plain = {
                "id": len(annotations) + 1,
                "image_id": record.image_id,
                "category_id": 1,
                **_annotation(item),
                "area": segmentation_area(item.segmentation, record.height, record.width),
                "iscrowd": int(item.iscrowd),
            }
            if item.rank >= 0 and not item.iscrowd:
                annotation["rank"] = item.rank
            if item.label is not None:
                annotation["label"] = item.label
            annotations.append(annotation)
    return {
        "info": {"description": "salient object ranking", "rank_order": HIGHER},
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "salient_obj", "supercategory": "object"}],
    }


def _coco(images: Images, root: Path, split: str) -> None:
    _write_json(COCO.path(root, split), coco_content(images))


def _assr(images: Images, root: Path, split: str) -> None:
    entries = []
    for record, name in images:
        stem, levels = Path(name).stem, _levels_from_top(record)
        labels = [None if item.rank < 0 else item.label for item in record.objects]
        if all(item.rank < 0 or item.label in range(_ASSR_RANKS) for item in record.objects):
            # keeps values that do not start at 1.0
            levels = [None if label is None else _ASSR_RANKS - 1 - label for label in labels]
        if any(level is not None and level >= _ASSR_RANKS for level in levels):
            raise _refuse(record, "ASSR", f"more than {_ASSR_RANKS} ranks")
        values = [0.5 if level is None else (10 - level) / 10 for level in levels]
        objects = []
        for item in record.objects:
            box = [*np.floor(item.box[:2]).astype(int).tolist(), *np.ceil(item.box[2:]).astype(int).tolist()]
            objects.append({"bbox": box, "segmentation": _polygons(item, record)})
        entries.append({"img": stem, "object_data": objects})
        ranks = json.dumps({"rank_order": values})
        _write_file(root / "rank_order" / split / f"{stem}.json", ranks.encode())
        grays = [int(255 * value) if value > 0.5 else 0 for value in values]
        write_png(root / "gt" / split / f"{stem}.png", _paint(record, grays))
    _write_json(ASSR.path(root, split), entries)
    (root / f"{split}_images.txt").write_text("".join(f"{entry['img']}\n" for entry in entries))


def _irsr(images: Images, root: Path, split: str) -> None:
    entries = []
    for record, name in images:
        annotations = [_annotation(item) for item in record.objects]
        ranks = [item.rank for item in record.objects]
        entries.append({"file_name": name, "annotations": annotations, "rank": ranks})
    _write_file(IRSR.path(root, split), pickle.dumps(entries, protocol=4))


def _sifr(images: Images, root: Path, split: str) -> None:
    entries = []
    for record, name in images:
        annotations = [{**_annotation(item), "gt_rank": item.rank} for item in record.objects]
        entries.append({"file_name": name, "image_id": record.image_id, "annotations": annotations})
    _write_json(SIFR.path(root, split), entries)


def _seqrank(images: Images, root: Path, split: str) -> None:
    entries = []
    for record, name in images:
        annotations = [
            {"category_id": item.rank + 1, "segmentation": _polygons(item, record)} for item in record.objects
        ]
        size = {"height": record.height, "width": record.width}
        entries.append({"image_name": Path(name).stem, **size, "annotations": annotations})
    comment = "category_id: 0 = not salient, else the rank, higher = more salient"
    _write_json(root / f"seqrank_{split}.json", {"__comment__": comment, "data": entries})


def _painted(images: Images, root: Path, split: str) -> None:
    for record, name in images:
        levels = _levels_from_top(record)
        depth = max((level for level in levels if level is not None), default=0) + 1
        if len(levels) > 255:
            raise _refuse(record, "a painted map", "more than 255 objects")
        step = min(25.5, 255 / depth)
        file = f"{Path(name).stem}.png"
        grays = [0 if level is None else int(255 - step * level) for level in levels]
        write_png(root / "gt" / split / file, _paint(record, grays))
        write_png(root / "masks" / split / file, _paint(record, range(1, len(levels) + 1)))


def _paint(record: ImageRecord, values: Sequence[int]) -> np.ndarray:
    """Return a map (H, W), uint8, on which the more salient object covers, then the later one."""
    canvas = np.zeros((record.height, record.width), np.uint8)
    masks, ranks = record.masks(), [item.rank for item in record.objects]
    for index in np.argsort(ranks, kind="stable"):
        canvas[masks[index]] = values[index]
    return canvas


WRITERS: dict[str, tuple[Callable[[Images, Path, str], None], str]] = {
    "coco": (_coco, "images/{split}"),
    "assr": (_assr, "images/{split}"),
    "irsr": (_irsr, "Images/{split}/rgb"),
    "sifr": (_sifr, "{split}/rgb"),
    "seqrank": (_seqrank, "images/{split}"),
    "painted": (_painted, "images/{split}"),
}
"""Format -> (writer, folder of the images)."""
_JPEG_ONLY = ("assr", "seqrank")
_WITHOUT_CROWDS = {"assr": "ASSR", "irsr": "IRSR", "sifr": "SIFR", "seqrank": "SeqRank"}
_RANKED_ONLY = ("irsr", "sifr")


def _place_image(file: str, target: Path, how: str) -> None:
    """Link or copy an image, copy one inside a tar file; raise ``DatasetError`` if another image is there."""
    source, is_in_tar = Path(file), member_of(file) is not None
    if how == "none" or (not is_in_tar and target.exists() and target.samefile(source)):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_file() and not target.is_symlink() and read_file(file) != target.read_bytes():
        raise DatasetError(
            f"{target}: expected a folder without this file, found another image there already"
        )
    target.unlink(missing_ok=True)
    if is_in_tar:
        target.write_bytes(read_file(file))
        return
    ways: dict[str, Callable[[Path, Path], object]]
    ways = {"copy": shutil.copyfile, "hardlink": os.link, "symlink": os.symlink}
    ways[how](source.resolve(), target)


def write_records(
    records: Sequence[ImageRecord],
    root: str | Path,
    kind: str,
    split: str,
    *,
    images: str = "symlink",
    ranked_only: bool = False,
) -> None:
    """Write records as a dataset folder.

    Ranks and masks are kept, and what a format cannot hold is refused; painted maps lose covered parts.

    Args:
        records: the images.
        root: folder of the dataset to write.
        kind: a key of ``WRITERS``.
        split: name of the split.
        images: how images are placed: ``symlink``, ``hardlink``, ``copy`` or ``none``.
        ranked_only: leave out crowds and objects without a rank.

    Raises:
        DatasetError: the format cannot hold a record; the message names the image.
        OSError: a file cannot be written.
    """
    writer, folder = WRITERS[kind]
    jpeg, target = kind in _JPEG_ONLY, Path(root) / folder.format(split=split)
    named: dict[str, tuple[ImageRecord, str]] = {}
    for record in records:
        source = Path(record.file_name)
        if jpeg and source.suffix.lower() not in (".jpg", ".jpeg"):
            raise _refuse(record, kind, f"an image called {source.name}, only *.jpg")
        if source.stem in named:
            raise DatasetError(
                f"{source}: expected different names, found another image called {source.stem}"
            )
        if ranked_only:
            kept = (item for item in record.objects if item.rank >= 0 and not item.iscrowd)
            record = replace(record, objects=tuple(kept))
        if kind in _WITHOUT_CROWDS and any(item.iscrowd for item in record.objects):
            raise _refuse(record, _WITHOUT_CROWDS[kind], "crowds (use --ranked-only)")
        if kind in _RANKED_ONLY and any(item.rank < 0 for item in record.objects):
            raise _refuse(record, _WITHOUT_CROWDS[kind], "objects without a rank (use --ranked-only)")
        named[source.stem] = record, f"{source.stem}.jpg" if jpeg else source.name
    for record, name in named.values():
        _place_image(record.file_name, target / name, images)
    writer(list(named.values()), Path(root), split)
