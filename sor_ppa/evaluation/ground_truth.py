"""Ground truth: a JSON file or a registered dataset, as detectron2 dataset dicts, and the objects of one
image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .fields import Identity, InputError, expect, field, identity, integer, load_json, number, short_text
from .inputs import dense_ranks
from .segmentations import Rle, to_rle

_XYXY, _XYWH = 0, 1  # detectron2's BoxMode
_LAST = 1_000_000  # turns "1 = most salient" into "higher = more salient"; only the order is used
_MOST_PIXELS = 1 << 28


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """All annotated objects of one image.

    Attributes:
        image_id: as in the dataset.
        name: file name of the image.
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
        return dense_ranks(self.ranks[self.ranks >= 0])

    def ranked_masks(self) -> NDArray[np.uint8]:
        """Return (G, H, W) uint8 masks of the objects that have a rank."""
        from pycocotools import mask as coco_mask

        rles = self.ranked_rles
        if not rles:
            return np.zeros((0, self.height, self.width), np.uint8)
        return np.ascontiguousarray(coco_mask.decode(rles).transpose(2, 0, 1))


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
        expect(segmentation, where, "a segmentation", "none; ranking needs masks")
        rle = to_rle(segmentation, height, width, where)
        rles.append(rle)
        ranks.append(rank)
        crowd.append(bool(annotation.get("iscrowd", 0)))
        boxes.append(_box(annotation, rle, (width, height), where))
    return ImageTruth(
        image_id=record["image_id"],
        name=name,
        height=height,
        width=width,
        rles=tuple(rles),
        ranks=np.array(ranks, np.int64),
        crowd=np.array(crowd, np.bool_),
        boxes=np.array(boxes, np.float64).reshape(-1, 4),
    )


def _box(annotation: Mapping[str, Any], rle: Rle, size: tuple[int, int], where: str) -> list[float]:
    box = annotation.get("bbox")
    if box is None:
        from pycocotools import mask as coco_mask

        return coco_mask.toBbox(rle).tolist()
    four = isinstance(box, Sequence | np.ndarray) and len(box) == 4
    expect(four, f"{where}: bbox", "4 numbers", short_text(box))
    x, y, a, b = (
        number(float(v) if isinstance(v, np.number) else v, f"{where}: bbox", "4 numbers") for v in box
    )
    mode = annotation.get("bbox_mode", _XYWH)
    expect(mode in (_XYXY, _XYWH), f"{where}: bbox_mode", "XYXY_ABS (0) or XYWH_ABS (1)", short_text(mode))
    width, height = (a - x, b - y) if mode == _XYXY else (a, b)
    near = all(
        -side <= low <= 2 * side and low + length <= 2 * side
        for low, length, side in ((x, width, size[0]), (y, height, size[1]))
    )
    expect(near, f"{where}: bbox", "a box in or near the image", f"[{x:g}, {y:g}, {width:g}, {height:g}]")
    return [x, y, width, height]


def by_image_id(records: Sequence[Mapping[str, Any]]) -> dict[Identity, Mapping[str, Any]]:
    """Return dataset dicts by ``image_id``.

    Raises:
        InputError: an id occurs twice.
    """
    found: dict[Identity, Mapping[str, Any]] = {}
    for record in records:
        other = found.setdefault(record["image_id"], record)
        if other is not record:
            names = f"{other.get('file_name')} and {record.get('file_name')}"
            raise InputError(f"image_id {record['image_id']}: expected once, found for {names}")
    return found


def read_truth(source: str) -> list[dict[str, Any]]:
    """Read the ground truth of a dataset.

    Args:
        source: the path of a JSON file, or the name of a registered dataset. The file is COCO
            (``images`` and ``annotations``, each annotation with ``rank`` or ``attributes.rank``,
            1 = most salient, or ``gt_rank``, higher = more salient; null = not ranked), or a list of
            dicts with ``image_id``, ``file_name``, ``height``, ``width`` and ``annotations``.

    Returns:
        One dict an image, with ``gt_rank`` in its annotations; those of a saliency dataset have
        ``mask_file_name`` instead.

    Raises:
        InputError: not found, not JSON, or malformed.
    """
    path = Path(source)
    if not path.is_file():
        missing = path.suffix == ".json" or "/" in source
        expect(not missing, source, "a ground-truth JSON file", "none")
        return _read_registered(source)
    content = load_json(path)
    if isinstance(content, dict) and "images" in content and "annotations" in content:
        records = _from_coco(path, content)
    else:
        expected = "COCO (images, annotations) or a list of images with annotations"
        expect(isinstance(content, list), str(path), expected, short_text(content))
        records = []
        for place, image in enumerate(content):
            where = f"{path}: image {place}"
            items = _list(field(image, "annotations", where), f"{where}: annotations")
            annotations = [_annotation(f"{where}: annotations[{n}]", item) for n, item in enumerate(items)]
            records.append({**_record(where, image, "image_id"), "annotations": annotations})
    expect(records, str(path), "at least one image", "none")
    return records


def _read_registered(name: str) -> list[dict[str, Any]]:
    from detectron2.data import DatasetCatalog, MetadataCatalog

    import sor_ppa.data  # noqa: F401  (registers the datasets)

    if name not in DatasetCatalog:
        kinds = ((entry, MetadataCatalog.get(entry).get("evaluator_type")) for entry in DatasetCatalog)
        known = ", ".join(sorted(entry for entry, kind in kinds if kind in ("sor", "sod")))
        raise InputError(f"{name}: expected a JSON file or a registered dataset ({known}), found neither")
    try:
        records = list(DatasetCatalog.get(name))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(" ".join(str(error).split())) from error
    expect(records, name, "at least one image", "none")
    return records


def _from_coco(path: Path, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    images: dict[Identity, dict[str, Any]] = {}
    for place, image in enumerate(_list(content["images"], f"{path}: images")):
        where = f"{path}: images[{place}]"
        record = _record(where, image, "id")
        expect(
            record["image_id"] not in images, f"{where}: id", "unique values", f"{record['image_id']!r} again"
        )
        images[record["image_id"]] = record
    for place, annotation in enumerate(_list(content["annotations"], f"{path}: annotations")):
        where = f"{path}: annotations[{place}]"
        image_id = identity(field(annotation, "image_id", where), f"{where}: image_id")
        expect(image_id in images, f"{where}: image_id", "one of the images", short_text(image_id))
        images[image_id]["annotations"].append(_annotation(where, annotation))
    return list(images.values())


def _list(value: Any, where: str) -> list[Any]:
    expect(isinstance(value, list), where, "a list", short_text(value))
    return value


def _record(where: str, image: Any, key: str) -> dict[str, Any]:
    image_id = identity(field(image, key, where), f"{where}: {key}")
    height, width = (
        integer(field(image, name, where), f"{where}: {name}", "a number of pixels", 1, _MOST_PIXELS)
        for name in ("height", "width")
    )
    small = height * width <= _MOST_PIXELS
    expect(small, where, f"an image of at most {_MOST_PIXELS} pixels", f"{height} x {width}")
    name = str(field(image, "file_name", where))
    return {"image_id": image_id, "file_name": name, "height": height, "width": width, "annotations": []}


def _annotation(where: str, annotation: Any) -> dict[str, Any]:
    expect(isinstance(annotation, dict), where, "an object", short_text(annotation))
    if "gt_rank" in annotation:
        rank = annotation["gt_rank"]
        if rank is not None:
            rank = integer(rank, f"{where}: gt_rank", "an integer or null", -_LAST, _LAST)
        return {**annotation, "gt_rank": rank}
    attributes = annotation.get("attributes")
    inner = attributes.get("rank") if isinstance(attributes, dict) else None
    rank = annotation.get("rank", inner)
    if isinstance(rank, str) and rank.strip().lstrip("+-").isdigit() and len(rank) < 20:
        rank = int(rank)  # annotation tools export attributes as text
    if rank is not None and rank != -1:
        expected = "an integer from 1 (= most salient) or null"
        rank = _LAST - integer(rank, f"{where}: rank", expected, 1, _LAST - 1)
    return {**annotation, "gt_rank": rank}
