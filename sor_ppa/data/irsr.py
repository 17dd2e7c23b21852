"""Readers of IRSR (TPAMI 2021) and SIFR (CVPR 2024) as published.

IRSR::

    Annotations/{train,test}.pkl       list of {"file_name", "annotations": [...], "rank": [...]}
    Images/{split}/rgb/ or image/      photographs

SIFR::

    {split}/{split}_annotations.json   list of {"file_name", "image_id", "annotations": [...]}
    {split}/rgb/                       photographs

Annotations are COCO's (``bbox`` x, y, width, height; ``segmentation`` polygons or RLE); ranks are
integers from 0, higher = more salient (SIFR has them in each annotation as ``gt_rank``).
"""

from __future__ import annotations

import logging
import pickle
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from ..restricted_pickle import load_pickle
from .assemble import Draft, Place, assemble, boxed_mask, note_ranks
from .checks import is_number, json_file, shown, text_of
from .faults import DatasetError, FaultSink
from .record import UNRANKED, ImageRecord, ObjectRecord, dense_ranks

__all__ = ["irsr_file", "irsr_images", "read_irsr", "read_sifr", "sifr_file"]

logger = logging.getLogger(__name__)


def irsr_file(root: Path, split: str) -> Path:
    """Annotation file of a split of IRSR."""
    return root / "Annotations" / f"{split}.pkl"


def irsr_images(root: Path, split: str, name: str = "") -> Path:
    """Folder of the images of a split of IRSR: ``rgb`` or, in some copies, ``image``.

    Args:
        root: the folder of the dataset.
        split: ``train`` or ``test``.
        name: of an image; where both folders exist, the one that holds it.
    """
    folders = [root / "Images" / split / part for part in ("rgb", "image")]
    present = [folder for folder in folders if folder.is_dir()] or folders[:1]
    return next((folder for folder in present if name and (folder / name).is_file()), present[0])


def sifr_file(root: Path, split: str) -> Path:
    """Annotation file of a split of SIFR."""
    return root / split / f"{split}_annotations.json"


def _name(entry: Any, file: Path, index: int, sink: FaultSink) -> str | None:
    """Last part of the record's file name (published files hold paths of other machines)."""
    name = entry.get("file_name") if isinstance(entry, dict) else None
    if not isinstance(name, str) or not name:
        sink.serious("bad-record", file, str(index), "file_name", f"found {shown(name)}, expected a name")
        return None
    return PureWindowsPath(name).name if "\\" in name else PurePosixPath(name).name


def _ranked(
    annotations: list[Any], ranks: list[Any], place: Place, field: str, keep_rankless: bool, sink: FaultSink
) -> tuple[ObjectRecord, ...]:
    """Objects from COCO annotations and their ranks."""
    kept = []
    for index, (item, rank) in enumerate(zip(annotations, ranks, strict=True)):
        if rank is not None and (not is_number(rank) or rank != int(rank)):
            detail = f"found {shown(rank)}, expected a whole number"
            sink.serious("bad-ranks", place.file, place.record, field.format(index), detail)
            continue
        crowd = isinstance(item, dict) and bool(item.get("iscrowd", 0))
        unranked = rank is None or rank < 0 or crowd
        if unranked and not (keep_rankless or crowd):
            continue
        found = boxed_mask(item, place, f"annotations[{index}]", sink, xywh=True)
        if found is not None:
            kept.append((*found, None if unranked else int(rank), crowd))
    values = [rank for _, _, rank, _ in kept if rank is not None]
    note_ranks(values, place, field.format(""), sink)
    order = iter(dense_ranks(values))
    return tuple(
        ObjectRecord(box, mask, UNRANKED if rank is None else next(order), crowd)
        for box, mask, rank, crowd in kept
    )


def read_irsr(
    root: str | Path, split: str, *, keep_rankless: bool = False, sink: FaultSink | None = None
) -> list[ImageRecord]:
    """Read one split of an IRSR folder. No image is decoded; the pickle cannot run anything.

    Args:
        root: the folder that holds ``Annotations`` and ``Images``.
        split: ``train`` or ``test``.
        keep_rankless: keep objects whose rank is negative or None.
        sink: collects faults; by default the first serious one raises.

    Raises:
        DatasetError: something is missing or broken; the message names file, record and field.
    """
    sink = sink or FaultSink()
    root = Path(root)
    file, images = irsr_file(root, split), None
    try:
        entries = load_pickle(text_of(file))
    except pickle.UnpicklingError as error:
        raise DatasetError(f"{file}: found {error}") from None
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: found {shown(entries)}, expected a list of images")
    drafts = []
    for index, entry in enumerate(entries):
        name = _name(entry, file, index, sink)
        if name is None:
            continue
        place = Place(file, f"{index} ({name})")
        annotations, ranks = entry.get("annotations"), entry.get("rank")
        if not isinstance(annotations, list) or not isinstance(ranks, (list, tuple)):
            field = "rank" if isinstance(annotations, list) else "annotations"
            detail = f"found {shown(entry.get(field))}, expected a list"
            sink.serious("bad-record", file, place.record, field, detail)
            continue
        if len(annotations) != len(ranks):
            detail = f"found {len(ranks)} ranks, expected {len(annotations)} (one for each annotation)"
            sink.serious("rank-count", file, place.record, "rank", detail)
            continue
        objects = _ranked(annotations, list(ranks), place, "rank[{}]", keep_rankless, sink)
        images = images or irsr_images(root, split, name)
        drafts.append(Draft(str(images / name), place, objects, index))
    records = assemble(drafts, "file_name", sink)
    sink.summarise()
    logger.info("read %d images of %s from %s", len(records), split, root)
    return records


def read_sifr(
    root: str | Path, split: str, *, keep_rankless: bool = False, sink: FaultSink | None = None
) -> list[ImageRecord]:
    """Read one split of a SIFR folder. No image is decoded.

    Args:
        root: the folder that holds ``{split}/``.
        split: ``train`` or ``test``.
        keep_rankless: keep objects whose ``gt_rank`` is negative or absent.
        sink: collects faults; by default the first serious one raises.

    Raises:
        DatasetError: something is missing or broken; the message names file, record and field.
    """
    sink = sink or FaultSink()
    root = Path(root)
    file = sifr_file(root, split)
    entries = json_file(file)
    if not isinstance(entries, list):
        raise DatasetError(f"{file}: found {shown(entries)}, expected a list of images")
    drafts = []
    for index, entry in enumerate(entries):
        name = _name(entry, file, index, sink)
        if name is None:
            continue
        place = Place(file, f"{index} ({name})")
        annotations, image_id = entry.get("annotations"), entry.get("image_id")
        if isinstance(image_id, str) and image_id.isascii() and image_id.isdigit():
            image_id = int(image_id)
        if not isinstance(annotations, list):
            detail = f"found {shown(annotations)}, expected a list"
            sink.serious("bad-record", file, place.record, "annotations", detail)
            continue
        if not is_number(image_id) or image_id != int(image_id):
            detail = f"found {shown(image_id)}, expected a whole number"
            sink.serious("bad-record", file, place.record, "image_id", detail)
            continue
        ranks = [item.get("gt_rank") if isinstance(item, dict) else None for item in annotations]
        objects = _ranked(annotations, ranks, place, "annotations[{}].gt_rank", keep_rankless, sink)
        drafts.append(Draft(str(root / split / "rgb" / name), place, objects, int(image_id)))
    records = assemble(drafts, "file_name", sink)
    sink.summarise()
    logger.info("read %d images of %s from %s", len(records), split, root)
    return records
