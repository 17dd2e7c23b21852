"""Writing of records in every format that can hold them."""

from __future__ import annotations

import filecmp
import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .assr import assr_file, assr_rank_files
from .coco_rank import HIGHER, coco_file, seqrank_file
from .faults import DatasetError
from .irsr import irsr_file, sifr_file
from .masks import mask_to_polygons
from .record import ImageRecord, ObjectRecord
from .rle import segmentation_area, segmentation_mask

__all__ = ["WRITERS", "write_records"]

Plain = dict[str, Any]
_TOP_VALUE, _ASSR_RANKS = 10, 5
_JPEG_SUFFIXES = (".jpg", ".jpeg")


def _levels(record: ImageRecord) -> list[int | None]:
    """Level of each object from the top (0 = most salient); None where it has no rank."""
    top = max((item.rank for item in record.objects), default=-1)
    return [None if item.rank < 0 else top - item.rank for item in record.objects]


def _polygons(item: ObjectRecord, record: ImageRecord) -> list[list[float]]:
    """Polygons of an object; those of an RLE follow the edges of its pixels."""
    if isinstance(item.segmentation, list):
        return item.segmentation
    return mask_to_polygons(segmentation_mask(item.segmentation, record.height, record.width))


def _plain_mask(item: ObjectRecord) -> list[list[float]] | Plain | None:
    """The mask as JSON can hold it."""
    mask = item.segmentation
    if isinstance(mask, dict) and isinstance(mask["counts"], bytes):
        return {"size": [int(side) for side in mask["size"]], "counts": mask["counts"].decode("ascii")}
    return mask


def _xywh(item: ObjectRecord) -> list[float]:
    x1, y1, x2, y2 = item.box
    return [x1, y1, x2 - x1, y2 - y1]


def _refuse(record: ImageRecord, kind: str, why: str) -> DatasetError:
    return DatasetError(f"{record.file_name}: {kind} cannot hold {why}")


def _check_ranked(record: ImageRecord, kind: str) -> None:
    for item in record.objects:
        if item.iscrowd:
            raise _refuse(record, kind, "crowds (use --ranked-only)")
        if item.rank < 0:
            raise _refuse(record, kind, "objects without a rank (use --ranked-only)")


def _check_jpeg(record: ImageRecord, kind: str) -> None:
    if Path(record.file_name).suffix.lower() not in _JPEG_SUFFIXES:
        raise _refuse(record, kind, f"an image called {Path(record.file_name).name}, only *.jpg")


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, allow_nan=False))


def _coco(records: Sequence[ImageRecord], names: Sequence[str], root: Path, split: str) -> None:
    images: list[Plain] = []
    annotations: list[Plain] = []
    for record, name in zip(records, names, strict=True):
        size = {"height": record.height, "width": record.width}
        images.append({"id": record.image_id, "file_name": name, **size})
        for item in record.objects:
            annotation: Plain = {
                "id": len(annotations) + 1,
                "image_id": record.image_id,
                "category_id": 1,
                "bbox": _xywh(item),
                "segmentation": _plain_mask(item),
                "area": segmentation_area(item.segmentation, record.height, record.width),
                "iscrowd": int(item.iscrowd),
            }
            if item.rank >= 0 and not item.iscrowd:
                annotation["rank"] = item.rank
            if item.label is not None:
                annotation["label"] = item.label
            annotations.append(annotation)
    content = {
        "info": {"description": "salient object ranking", "rank_order": HIGHER},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "salient_obj", "supercategory": "object"}],
    }
    _write_json(coco_file(root, split), content)


def _assr(records: Sequence[ImageRecord], names: Sequence[str], root: Path, split: str) -> None:
    entries = []
    for record in records:
        stem, levels = Path(record.file_name).stem, _levels(record)
        if any(item.iscrowd for item in record.objects):
            raise _refuse(record, "ASSR", "crowds (use --ranked-only)")
        labels = [item.label for item in record.objects if item.rank >= 0]
        if labels and all(label is not None and 0 <= label < _ASSR_RANKS for label in labels):
            levels = [  # values that do not begin at 1.0 come back as they were
                None if item.rank < 0 or item.label is None else _ASSR_RANKS - 1 - item.label
                for item in record.objects
            ]
        if max((level for level in levels if level is not None), default=0) >= _ASSR_RANKS:
            raise _refuse(record, "ASSR", f"more than {_ASSR_RANKS} ranks")
        values = [0.5 if level is None else (_TOP_VALUE - level) / 10 for level in levels]
        boxes = [
            [*np.floor(item.box[:2]).astype(int).tolist(), *np.ceil(item.box[2:]).astype(int).tolist()]
            for item in record.objects
        ]
        objects = [
            {"bbox": box, "segmentation": _polygons(item, record)}
            for box, item in zip(boxes, record.objects, strict=True)
        ]
        entries.append({"img": stem, "object_data": objects})
        _write_json(assr_rank_files(root, split) / f"{stem}.json", {"rank_order": values})
        greys = [
            0 if level is None else int(255 * value) for level, value in zip(levels, values, strict=True)
        ]
        _write_png(root / "gt" / split / f"{stem}.png", _paint(record, greys))
    _write_json(assr_file(root, split), entries)
    (root / f"{split}_images.txt").write_text("".join(f"{entry['img']}\n" for entry in entries))


def _irsr(records: Sequence[ImageRecord], names: Sequence[str], root: Path, split: str) -> None:
    entries = []
    for record, name in zip(records, names, strict=True):
        _check_ranked(record, "IRSR")
        annotations = [{"bbox": _xywh(item), "segmentation": _plain_mask(item)} for item in record.objects]
        ranks = [item.rank for item in record.objects]
        entries.append({"file_name": name, "annotations": annotations, "rank": ranks})
    path = irsr_file(root, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(entries, protocol=4))


def _sifr(records: Sequence[ImageRecord], names: Sequence[str], root: Path, split: str) -> None:
    entries = []
    for record, name in zip(records, names, strict=True):
        _check_ranked(record, "SIFR")
        annotations = [
            {"bbox": _xywh(item), "segmentation": _plain_mask(item), "gt_rank": item.rank}
            for item in record.objects
        ]
        entries.append({"file_name": name, "image_id": record.image_id, "annotations": annotations})
    _write_json(sifr_file(root, split), entries)


def _seqrank(records: Sequence[ImageRecord], names: Sequence[str], root: Path, split: str) -> None:
    entries = []
    for record in records:
        if any(item.iscrowd for item in record.objects):
            raise _refuse(record, "SeqRank", "crowds (use --ranked-only)")
        annotations = [
            {"category_id": item.rank + 1, "segmentation": _polygons(item, record)} for item in record.objects
        ]
        size = {"height": record.height, "width": record.width}
        name = Path(record.file_name).stem
        entries.append({"image_name": name, **size, "annotations": annotations})
    comment = "category_id: 0 = not salient, else the rank, higher = more salient"
    _write_json(seqrank_file(root, split), {"__comment__": comment, "data": entries})


def _painted(records: Sequence[ImageRecord], names: Sequence[str], root: Path, split: str) -> None:
    for record in records:
        stem, levels = Path(record.file_name).stem, _levels(record)
        depth = max((level for level in levels if level is not None), default=0) + 1
        if len(record.objects) > 255 or depth > 255:
            raise _refuse(record, "a painted map", "more than 255 objects")
        step = min(25.5, 255 / depth)
        greys = [0 if level is None else int(255 - step * level) for level in levels]
        _write_png(root / "gt" / split / f"{stem}.png", _paint(record, greys))
        ids = _paint(record, list(range(1, len(record.objects) + 1)))
        _write_png(root / "masks" / split / f"{stem}.png", ids)


def _paint(record: ImageRecord, values: Sequence[int]) -> np.ndarray:
    """(H, W) uint8 map; the more salient object covers, then the one that comes later."""
    canvas = np.zeros((record.height, record.width), np.uint8)
    order = sorted(range(len(values)), key=lambda index: record.objects[index].rank)
    for index in order:
        mask = segmentation_mask(record.objects[index].segmentation, record.height, record.width)
        canvas[mask] = values[index]
    return canvas


def _write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", image)
    if not done:
        raise DatasetError(f"{path}: map could not be encoded")
    path.write_bytes(data.tobytes())


Writer = Callable[[Sequence[ImageRecord], Sequence[str], Path, str], None]
WRITERS: dict[str, tuple[Writer, str, bool]] = {
    "coco": (_coco, "images/{split}", False),
    "assr": (_assr, "images/{split}", True),
    "irsr": (_irsr, "Images/{split}/rgb", False),
    "sifr": (_sifr, "{split}/rgb", False),
    "seqrank": (_seqrank, "images/{split}", True),
    "painted": (_painted, "images/{split}", False),
}
"""Format -> (writer, folder of the images, whether these must be called *.jpg)."""


def _place_images(records: Sequence[ImageRecord], folder: Path, how: str, jpeg: bool) -> list[str]:
    """Bring images into a folder; returns their names there (with ``jpeg`` these end in .jpg)."""
    names: list[str] = []
    seen: dict[str, str] = {}
    last = None
    for record in records:
        source = Path(record.file_name)
        if seen.setdefault(source.stem, record.file_name) != record.file_name or source.stem == last:
            raise DatasetError(f"{source}: another image of the split is called {source.stem} as well")
        last = source.stem
        names.append(f"{source.stem}.jpg" if jpeg else source.name)
        target = folder / names[-1]
        if how == "none" or (target.exists() and target.samefile(source)):
            continue
        folder.mkdir(parents=True, exist_ok=True)
        if target.is_file() and not target.is_symlink() and not filecmp.cmp(source, target, shallow=False):
            raise DatasetError(f"{target}: is another image already, expected a folder without it")
        target.unlink(missing_ok=True)
        if how == "copy":
            shutil.copyfile(source, target)
        elif how == "hardlink":
            os.link(source, target)
        else:
            target.symlink_to(source.resolve())
    return names


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

    Ranks and masks survive in every format; what a format cannot hold is refused, not bent: ASSR has
    five ranks and, like SeqRank, polygons and ``*.jpg`` only (masks that are RLE become polygons
    along their pixels); IRSR and SIFR have no objects without a rank; painted maps lose what covers
    what.

    Args:
        records: the images.
        root: folder of the dataset to write.
        kind: a key of ``WRITERS``.
        split: name of the split.
        images: how images get there: ``symlink``, ``hardlink``, ``copy`` or ``none``.
        ranked_only: leave out crowds and objects without a rank.

    Raises:
        DatasetError: the format cannot hold a record; the message names the image.
        OSError: a file cannot be written.
    """
    writer, folder, jpeg = WRITERS[kind]
    root = Path(root)
    if ranked_only:
        records = [
            ImageRecord(
                record.file_name,
                record.height,
                record.width,
                tuple(item for item in record.objects if item.rank >= 0 and not item.iscrowd),
                record.image_id,
            )
            for record in records
        ]
    if jpeg:
        for record in records:
            _check_jpeg(record, kind)
    names = _place_images(records, root / folder.format(split=split), images, jpeg)
    writer(records, names, root, split)
