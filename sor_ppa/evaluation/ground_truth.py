"""Ground truth of datasets, as detectron2 dataset dicts, and of one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from numpy.typing import NDArray
from pycocotools import mask as mask_util

from ..data.builtin import DatasetSource
from ..data.coco import LOWER, rank_of, rank_order
from ..data.issues import short_repr
from ..data.masks import as_int
from ..data.own import register_own
from ..data.record import dense_ranks
from .checks import Identity, InputError, expect, expect_value, field, identity, integer, load_json
from .segmentations import Rle, to_rle

_LAST = 1_000_000  # turns "lower = more salient" into "higher = more salient"; only the order is used
_MOST_PIXELS = 1 << 28
_BOX = "4 numbers with bbox_mode XYXY_ABS (0) or XYWH_ABS (1)"


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """All annotated objects of one image.

    Attributes:
        image_id, name: id and file name of the image.
        height, width: pixels.
        rles: one COCO run-length mask an object.
        ranks: (n,) higher = more salient, -1 = not ranked.
        crowd: (n,) bool.
        boxes: (n, 4) x, y, width, height in pixels.
    """

    image_id: Identity
    name: str
    height: int
    width: int
    rles: tuple[Rle, ...]
    ranks: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    boxes: NDArray[np.float64]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width

    @property
    def ranked_rles(self) -> list[Rle]:
        """Masks of the objects that have a rank."""
        return [self.rles[index] for index in np.flatnonzero(self.ranks >= 0)]

    @property
    def dense_ranks(self) -> NDArray[np.int64]:
        """Ranks of ``ranked_rles``, renumbered to dense integers from 0."""
        return np.array(dense_ranks(self.ranks[self.ranks >= 0].tolist()), np.int64)

    def ranked_masks(self) -> NDArray[np.uint8]:
        """Return (G, H, W) uint8 masks of the objects that have a rank."""
        masks = [mask_util.decode(rle) for rle in self.ranked_rles]
        return np.array(masks, np.uint8).reshape(-1, self.height, self.width)


def truth_from_dict(record: Mapping[str, Any]) -> ImageTruth:
    """Return the ground truth of a detectron2 dataset dict.

    Args:
        record: with ``file_name``, ``image_id``, ``height``, ``width`` and ``annotations``, each with
            ``segmentation`` (polygons or RLE), ``gt_rank`` (higher = more salient; absent, None or
            negative = not ranked), and optionally ``bbox`` with ``bbox_mode`` and ``iscrowd``.

    Raises:
        InputError: missing or malformed entries, in one line that names image, annotation and field.
    """
    name = str(record.get("file_name", record.get("image_id", "?")))
    for key in ("image_id", "height", "width"):
        expect(key in record, name, f"the field {key!r} in its ground truth", sorted(record))
    height, width = int(record["height"]), int(record["width"])
    rles, ranks, crowd, boxes = [], [], [], []
    for place, annotation in enumerate(record.get("annotations", ())):
        where = f"{name}: annotation {place}"
        rank = annotation.get("gt_rank")
        rank = -1 if rank is None or rank < 0 else int(rank)
        segmentation = annotation.get("segmentation")
        if not segmentation and rank < 0:
            continue
        rles.append(to_rle(segmentation, height, width, where))
        ranks.append(rank)
        crowd.append(bool(annotation.get("iscrowd", 0)))
        boxes.append(_box(annotation, rles[-1], where))
    numbers = np.array(ranks, np.int64), np.array(crowd, np.bool_), np.array(boxes, np.float64).reshape(-1, 4)
    return ImageTruth(record["image_id"], name, height, width, tuple(rles), *numbers)


def _box(annotation: Mapping[str, Any], rle: Rle, where: str) -> NDArray[np.float64]:
    given, mode = annotation.get("bbox"), annotation.get("bbox_mode", BoxMode.XYWH_ABS)
    try:
        box = np.array(mask_util.toBbox(rle) if given is None else given, np.float64)
    except (TypeError, ValueError, OverflowError):
        box = np.zeros(0)
    good = box.shape == (4,) and np.isfinite(box).all()
    expect_value(good and mode in (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS), f"{where}: bbox", _BOX, given)
    if given is not None and mode == BoxMode.XYXY_ABS:
        box[2:] -= box[:2]
    return box


def by_image_id(records: Sequence[Mapping[str, Any]]) -> dict[Identity, Mapping[str, Any]]:
    """Return dataset dicts by ``image_id``.

    Raises:
        InputError: an id occurs twice.
    """
    found: dict[Identity, Mapping[str, Any]] = {}
    for record in records:
        other = found.setdefault(record["image_id"], record)
        names = f"for {other.get('file_name')} and {record.get('file_name')}"
        expect(other is record, f"image_id {record['image_id']}", "once", names)
    return found


def read_truth(source: str) -> list[dict[str, Any]]:
    """Read the ground truth of a dataset.

    Args:
        source: the path of a JSON file, the name of a registered dataset, or "NAME=FORMAT:PATH" (see
            ``data.own``). The file is COCO
            (``images`` and ``annotations``, each annotation with ``rank`` or ``attributes.rank``,
            1 = most salient, or ``gt_rank``, higher = more salient; null = not ranked), or a list of
            dicts with ``image_id``, ``file_name``, ``height``, ``width`` and ``annotations``. A COCO
            file with ``info.rank_order`` has ranks and labels as those of a registered dataset.
            ASSR's ``obj_seg_data_SPLIT.json`` is read with the ranks beside it.

    Returns:
        One dict an image, with ``gt_rank`` in its annotations; those of a saliency dataset have
        ``mask_file_name`` instead.

    Raises:
        InputError, DatasetError: not found, not JSON, or malformed.
    """
    path = Path(source)
    if path.is_file():
        records = _read_file(path)
    elif "=" in source:
        records = _read_registered(register_own(source))
    else:
        missing = path.suffix == ".json" or "/" in source
        expect(not missing, source, "a ground-truth JSON file", "none")
        records = _read_registered(source)
    expect(records, source, "at least one image", "none")
    return records


def _read_registered(name: str) -> list[dict[str, Any]]:
    if name not in DatasetCatalog:
        kinds = ((entry, MetadataCatalog.get(entry).get("evaluator_type")) for entry in DatasetCatalog)
        known = ", ".join(sorted(entry for entry, kind in kinds if kind in ("sor", "sod")))
        raise InputError(f"{name}: expected a JSON file or a registered dataset ({known}), found neither")
    try:
        return list(DatasetCatalog.get(name))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(" ".join(str(error).split())) from error


def _read_file(path: Path) -> list[dict[str, Any]]:
    split = path.stem.removeprefix("obj_seg_data_")
    if path.stem != split and (path.parent / "rank_order" / split).is_dir():
        return _read_assr(path, split)
    content = load_json(path)
    if isinstance(content, list) and content and isinstance(content[0], dict):
        expected = "the name obj_seg_data_SPLIT.json beside the folder rank_order/SPLIT"
        expect("object_data" not in content[0], str(path), expected, path.name)
    coco = isinstance(content, dict)
    images, annotations = (content.get("images"), content.get("annotations")) if coco else (content, [])
    order = rank_order(content, path) if coco else None
    good = isinstance(images, list) and isinstance(annotations, list)
    expected = "COCO (images, annotations) or a list of images with annotations"
    expect_value(good, str(path), expected, content)
    records: dict[Identity, dict[str, Any]] = {}
    for place, image in enumerate(images):
        where, key = f"{path}: images[{place}]", "id" if coco else "image_id"
        image_id = identity(field(image, key, where), f"{where}: {key}")
        expect(image_id not in records, f"{where}: {key}", "unique values", f"{short_repr(image_id)} again")
        height, width = (
            integer(field(image, name, where), f"{where}: {name}", "a number of pixels", 1, _MOST_PIXELS)
            for name in ("height", "width")
        )
        small = height * width <= _MOST_PIXELS
        expect(small, where, f"an image of at most {_MOST_PIXELS} pixels", f"{height} x {width}")
        items = [] if coco else field(image, "annotations", where)
        expect_value(isinstance(items, list), f"{where}: annotations", "a list", items)
        objects = [_with_gt_rank(item, f"{where}: annotations[{n}]") for n, item in enumerate(items)]
        record = {"image_id": image_id, "file_name": str(field(image, "file_name", where))}
        records[image_id] = {**record, "height": height, "width": width, "annotations": objects}
    for place, item in enumerate(annotations):
        where = f"{path}: annotations[{place}]"
        image_id = identity(field(item, "image_id", where), f"{where}: image_id")
        expect_value(image_id in records, f"{where}: image_id", "one of the images", image_id)
        records[image_id]["annotations"].append(_with_gt_rank(item, where, order))
    return list(records.values())


def _read_assr(path: Path, split: str) -> list[dict[str, Any]]:
    try:
        return DatasetSource(path.stem, str(path.absolute().parent), "assr", split)()
    except (OSError, ValueError) as error:
        raise InputError(" ".join(str(error).split())) from error


def _with_gt_rank(annotation: Any, where: str, order: str | None = None) -> dict[str, Any]:
    """Return a copy with ``gt_rank``; ``order`` is that of ``rank_order``."""
    expect_value(isinstance(annotation, dict), where, "an object", annotation)
    rank, given = annotation.get("gt_rank"), rank_of(annotation)
    if rank is not None:
        rank = integer(rank, f"{where}: gt_rank", "an integer or null", -_LAST, _LAST)
    elif "gt_rank" in annotation or given in (None, -1):
        pass
    elif order is None:
        expected = "an integer from 1 (= most salient) or null"
        rank = _LAST - integer(given, f"{where}: rank", expected, 1, _LAST - 1)
    else:
        given = integer(given, f"{where}: rank", "an integer or null", -_LAST, _LAST)
        if given >= 0 and not annotation.get("iscrowd"):
            label = as_int(annotation.get("label"))
            rank = _LAST - given if order == LOWER else given
            rank = rank if label is None else label
    return {**annotation, "gt_rank": rank}
