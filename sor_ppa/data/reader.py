"""The reading loop that all formats share.

A format contributes a function that finds the files of a split and yields a ``RawImage`` for each entry;
the loop checks masks, boxes and image sizes and makes records with dense ranks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .images import image_sizes
from .issues import DatasetError, IssueLog, Place, expected
from .masks import Segmentation, clean_segmentation, is_number, segmentation_box, whole
from .record import UNRANKED, ImageRecord, ObjectRecord, dense_ranks

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RawObject:
    """An object as the annotation file holds it.

    Attributes:
        annotation: should be a dict with ``segmentation`` and perhaps ``bbox``.
        field: where it stands in its record.
        rank: higher = more salient; None if it has none.
        crowd: whether it covers a group.
        label: the dataset's own training label.
    """

    annotation: Any
    field: str
    rank: float | None
    crowd: bool = False
    label: int | None = None


@dataclass(slots=True)
class RawImage:
    """An entry of an annotation file.

    Attributes:
        path: image file.
        place: where the entry stands.
        image_id: unique in the split.
        objects: all of its objects.
        size: (height, width) that the entry claims, if it does.
        rank_sign: -1 if lower ranks are more salient in the file.
        first_rank: the rank that the file's ranks of an image should start from.
    """

    path: str
    place: Place
    image_id: int
    objects: list[RawObject] = field(default_factory=list)
    size: tuple[int, int] | None = None
    rank_sign: int = 1
    first_rank: int = 0


@dataclass(frozen=True)
class Format:
    """A dataset format.

    Attributes:
        entries: ``(root, split, log)`` -> the entries of a split.
        needs: ``(root, split)`` -> files and folders of a split, the annotations first.
        image_field: field of an entry that names the image.
        rank_field: field that holds ranks; "" if ties and gaps mean nothing.
        xywh: whether ``bbox`` is x, y, width, height (else x1, y1, x2, y2).
    """

    entries: Callable[[Path, str, IssueLog], Iterable[RawImage]]
    needs: Callable[[Path, str], list[Path]]
    image_field: str = "file_name"
    rank_field: str = ""
    xywh: bool = True

    def read(
        self, root: str | Path, split: str, *, keep_rankless: bool = False, issues: IssueLog | None = None
    ) -> list[ImageRecord]:
        """Read one split of a dataset. Photographs are not decoded.

        Args:
            root: folder of the dataset.
            split: name of the split, such as ``train``.
            keep_rankless: keep objects that are not salient, without a rank. Published code and the
                default leave them out. Crowds are always kept.
            issues: collects issues; by default the first fault raises.

        Returns:
            one record for each entry, in the order of the annotation file. Objects without a usable mask
            are left out with a warning.

        Raises:
            DatasetError: something is missing or broken; the message names file, record and field.
        """
        log = issues or IssueLog()
        images = list(self.entries(Path(root), split, log))
        sizes = image_sizes([image.path for image in images])
        broken = sum(isinstance(size, OSError) for size in sizes)
        records = []
        for image, size in zip(images, sizes, strict=True):
            if isinstance(size, OSError):
                self._objects(image, None, keep_rankless)
                missing = isinstance(size, FileNotFoundError)
                kind, found = ("missing", "no such image") if missing else ("broken", "a broken file")
                detail = f"expected an image, found {found}: {image.path}"
                if broken > 1 and not log.collect:
                    detail += f" ({broken - 1} more images are missing or broken)"
                image.place.fault(f"{kind}-image", self.image_field, detail)
                continue
            if image.size is not None and image.size != size:
                detail = (
                    f"expected {size[0]}x{size[1]} as the image has, found {image.size[0]}x{image.size[1]}"
                )
                image.place.left_out("size-disagrees", "height, width", detail)
            objects = self._objects(image, size, keep_rankless)
            records.append(ImageRecord(image.path, *size, objects, image.image_id))
        log.log_left_out()
        logger.info("read %d images of %s from %s", len(records), split, root)
        return records

    def _objects(
        self, image: RawImage, size: tuple[int, int] | None, keep_rankless: bool
    ) -> tuple[ObjectRecord, ...]:
        """Return the objects of an image that are kept, with dense ranks."""
        kept = []
        for item in image.objects:
            if item.rank is None and not (keep_rankless or item.crowd):
                continue
            found = self._box_and_mask(item, size, image.place)
            if found is not None:
                kept.append((item, *found))
        ranks = [item.rank for item, _, _ in kept if item.rank is not None]
        if self.rank_field and image.place.log.collect and ranks:
            self._note_ranks(image, ranks)
        order = iter(dense_ranks(ranks))
        return tuple(
            ObjectRecord(box, mask, UNRANKED, item.crowd)
            if item.rank is None
            else ObjectRecord(box, mask, next(order), item.crowd, item.label)
            for item, box, mask in kept
        )

    def _box_and_mask(
        self, item: RawObject, size: tuple[int, int] | None, place: Place
    ) -> tuple[tuple[float, float, float, float], Segmentation] | None:
        """Return XYXY box and mask of an object; None (and an issue) if it has no usable mask."""
        annotation = item.annotation
        if not isinstance(annotation, dict):
            place.fault("bad-object", item.field, expected("an object", annotation))
            return None
        mask = clean_segmentation(annotation.get("segmentation"), size, place, f"{item.field}.segmentation")
        box = annotation.get("bbox")
        if box is None:
            return None if mask is None else (segmentation_box(mask), mask)
        if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(map(is_number, box)):
            names = "x, y, width, height" if self.xywh else "x1, y1, x2, y2"
            place.fault("bad-box", f"{item.field}.bbox", expected(f"four numbers {names}", box))
            return None
        x1, y1, x2, y2 = box
        if self.xywh:
            x2, y2 = x1 + x2, y1 + y2
        return None if mask is None else ((x1, y1, x2, y2), mask)

    def _note_ranks(self, image: RawImage, ranks: list[float]) -> None:
        """Note ranks that tie or skip."""
        values, counts = np.unique(np.array(ranks) * image.rank_sign, return_counts=True)
        found = [int(value) if value == int(value) else value for value in values.tolist()]
        if counts.max() > 1:
            tied = [value for value, count in zip(found, counts, strict=True) if count > 1]
            image.place.note(
                "rank-tie", self.rank_field, expected("different ranks", tied) + " more than once"
            )
        dense = list(range(image.first_rank, image.first_rank + len(found)))
        if found != dense:
            image.place.note("rank-skip", self.rank_field, expected(str(dense), found))


def file_content(path: Path) -> bytes:
    """Return the bytes of an annotation file.

    Raises:
        DatasetError: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected an annotation file, found no such file") from None
    except OSError as error:
        raise DatasetError(f"{path}: expected a readable file, found {error.strerror}") from None


def json_file(path: Path, *lists: str) -> Any:
    """Return the content of a JSON file: a list, or an object with these lists.

    Raises:
        DatasetError: it is missing, cannot be read or holds something else.
    """
    data = file_content(path)
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:  # no JSON, no text, an endless number or nesting
        raise DatasetError(f"{path}: expected JSON, found invalid JSON ({error})") from None
    kind: Any = dict if lists else list
    if not isinstance(content, kind):
        raise DatasetError(f"{path}: {expected('an object' if lists else 'a list of images', content)}")
    for key in lists:
        value = content.get(key)
        if not isinstance(value, list):
            raise DatasetError(f"{path}: field {key}: {expected('a list', value)}")
    return content


def named_entries(
    entries: Iterable[Any], file: Path, key: str, log: IssueLog
) -> Iterator[tuple[int, str, Place, dict[str, Any]]]:
    """Yield (index, name, place, entry) of the entries that name an image; report the others.

    Args:
        entries: of the annotation file.
        file: the annotation file.
        key: field of an entry that holds the name.
        log: where issues go.
    """
    for index, entry in enumerate(entries):
        name = entry.get(key) if isinstance(entry, dict) else None
        if isinstance(name, str) and name:
            yield index, name, log.at(file, f"{index} ({last_part(name)})"), entry
        else:
            log.at(file, str(index)).fault("bad-record", key, expected("a name", name))


def last_part(name: str) -> str:
    """Return the last part of a path of any system."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def entry_list(entry: dict[str, Any], key: str, place: Place) -> list[Any] | None:
    """Return a list of an entry; None (and an issue) if it is something else."""
    value = entry.get(key)
    if isinstance(value, (list, tuple)):
        return list(value)
    place.fault("bad-record", key, expected("a list", value))
    return None


def claimed_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Return the (height, width) that an entry claims, or None."""
    height, width = whole(entry.get("height")), whole(entry.get("width"))
    return None if height is None or width is None else (height, width)


def ranked_object(
    annotation: Any, rank: Any, field: str, rank_field: str, place: Place, **options: Any
) -> RawObject | None:
    """Return an object of a COCO annotation and its rank; None (and an issue) if that is no whole number.

    Args:
        annotation: of the object; with ``iscrowd`` it has no rank.
        rank: higher = more salient; None or negative: it has none.
        field, rank_field: where annotation and rank stand.
        place: the record.
        options: of ``RawObject``.
    """
    number = whole(rank)
    if rank is not None and number is None:
        place.fault("bad-ranks", rank_field, expected("a whole number", rank))
        return None
    crowd = isinstance(annotation, dict) and bool(annotation.get("iscrowd", 0))
    if crowd or (number is not None and number < 0):
        number = None
    return RawObject(annotation, field, number, crowd, **options)
