"""Ground truth of one image for evaluation, from detectron2 dataset dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .inputs import check_runs, dense_ranks

Rle = dict[str, Any]
_XYXY, _XYWH = 0, 1  # detectron2's BoxMode
_FAR = 10  # image sizes; pycocotools walks along every edge, so a wild point would take all memory


@dataclass(frozen=True, slots=True)
class ImageTruth:
    """All annotated objects of one image.

    Attributes:
        image_id: as in the data set.
        name: file name of the image.
        height, width: pixels.
        rles: one COCO run-length mask an object.
        ranks: (n,) higher = more salient, -1 = not ranked.
        crowd: (n,) bool.
        boxes: (n, 4) x, y, width, height in pixels.
    """

    image_id: int | str
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
        """(G, H, W) uint8 masks of the objects that have a rank."""
        from pycocotools import mask as coco_mask

        rles = self.ranked_rles
        if not rles:
            return np.zeros((0, self.height, self.width), np.uint8)
        return np.ascontiguousarray(coco_mask.decode(rles).transpose(2, 0, 1))


def truth_from_dict(record: Mapping[str, Any]) -> ImageTruth:
    """Ground truth from a detectron2 dataset dict.

    Args:
        record: with ``file_name``, ``image_id``, ``height``, ``width`` and ``annotations``, each with
            ``segmentation`` (polygons or RLE), ``gt_rank`` (higher = more salient; absent, None or
            negative = not ranked), and optionally ``bbox`` with ``bbox_mode`` and ``iscrowd``.

    Raises:
        ValueError: missing or malformed entries, in one line that names image, annotation and field.
    """
    name = str(record.get("file_name", record.get("image_id", "?")))
    for field in ("image_id", "height", "width"):
        if field not in record:
            raise ValueError(
                f"{name}: expected the field {field!r} in its ground truth, found {sorted(record)}"
            )
    height, width = int(record["height"]), int(record["width"])
    rles, ranks, crowd, boxes = [], [], [], []
    for place, annotation in enumerate(record.get("annotations", ())):
        where = f"{name}: annotation {place}"
        rank = annotation.get("gt_rank")
        rank = -1 if rank is None or rank < 0 else int(rank)
        segmentation = annotation.get("segmentation")
        if not segmentation:
            if rank < 0:
                continue
            raise ValueError(f"{where}: expected a segmentation, found none; ranking needs masks")
        rle = to_rle(segmentation, height, width, where)
        rles.append(rle)
        ranks.append(rank)
        crowd.append(bool(annotation.get("iscrowd", 0)))
        boxes.append(_box(annotation, rle, where))
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


def to_rle(segmentation: Any, height: int, width: int, where: str) -> Rle:
    """A COCO segmentation (polygons, run lengths or compressed RLE) as compressed RLE.

    Args:
        segmentation: ``[[x1, y1, ...], ...]`` or ``{"size": [h, w], "counts": ...}``.
        height, width: pixels of the image.
        where: what to call it in messages.

    Raises:
        ValueError: malformed, or of another size.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, Mapping):
        if "counts" not in segmentation or segmentation.get("size") not in ([height, width], (height, width)):
            raise ValueError(
                f"{where}: segmentation: expected RLE with size [{height}, {width}] and counts, "
                f"found size {segmentation.get('size')}"
            )
        check_runs(segmentation["counts"], height * width, f"{where}: segmentation")
        if isinstance(segmentation["counts"], list):
            return coco_mask.frPyObjects(dict(segmentation), height, width)
        return dict(segmentation)
    try:
        polygons = [np.asarray(polygon, np.float64).reshape(-1).tolist() for polygon in segmentation]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: segmentation: expected lists of numbers, found others") from error
    if any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        lengths = [len(polygon) for polygon in polygons]
        raise ValueError(
            f"{where}: segmentation: expected polygons of at least 3 points, found lengths {lengths}"
        )
    farthest = max(abs(value) for polygon in polygons for value in polygon)
    if not farthest <= _FAR * (height + width):
        raise ValueError(f"{where}: segmentation: expected points near the image, found {farthest:g}")
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def _box(annotation: Mapping[str, Any], rle: Rle, where: str) -> list[float]:
    box = annotation.get("bbox")
    if box is None:
        from pycocotools import mask as coco_mask

        return [float(value) for value in coco_mask.toBbox(rle)]
    if not isinstance(box, Sequence | np.ndarray) or len(box) != 4:
        raise ValueError(f"{where}: bbox: expected 4 numbers, found {box!r:.60}")
    try:
        x, y, a, b = (float(value) for value in box)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{where}: bbox: expected 4 numbers, found {box!r:.60}") from error
    mode = annotation.get("bbox_mode", _XYWH)
    if mode not in (_XYXY, _XYWH):
        raise ValueError(f"{where}: bbox_mode: expected XYXY_ABS (0) or XYWH_ABS (1), found {mode!r:.60}")
    return [x, y, a - x, b - y] if mode == _XYXY else [x, y, a, b]


def encode_masks(masks: NDArray) -> list[Rle]:
    """(N, H, W) bool or uint8 0/1 masks as compressed RLE with str counts (JSON-able)."""
    from pycocotools import mask as coco_mask

    rles = [coco_mask.encode(np.asfortranarray(mask.view(np.uint8))) for mask in masks]
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in rles]


def by_image_id(records: Sequence[Mapping[str, Any]]) -> dict[int | str, Mapping[str, Any]]:
    """Dataset dicts by ``image_id``.

    Raises:
        ValueError: an id occurs twice.
    """
    found: dict[int | str, Mapping[str, Any]] = {}
    for record in records:
        if record["image_id"] in found:
            first = found[record["image_id"]].get("file_name")
            raise ValueError(
                f"image_id {record['image_id']}: expected once, found for {first} and "
                "{record.get('file_name')}"
            )
        found[record["image_id"]] = record
    return found
