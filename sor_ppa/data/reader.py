"""The reading loop that all formats share.

A format contributes a function that finds the files of a split and yields a ``RawImage`` for each entry;
the loop checks masks, boxes and image sizes and makes records with dense ranks.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .images import image_sizes
from .issues import DatasetError, IssueLog, Place, expected
from .masks import Segmentation, as_int, clean_segmentation, is_number, segmentation_box
from .record import UNRANKED, ImageRecord, ObjectRecord, dense_ranks

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class RawObject:
    """An object as the annotation file holds it."""

    annotation: Any  # should be a dict with ``segmentation`` and perhaps ``bbox``
    field: str  # where it stands in its record
    rank: float | None  # higher = more salient
    crowd: bool = False  # whether it covers a group
    label: int | None = None  # the dataset's own training label


@dataclass(slots=True)
class RawImage:
    """An entry of an annotation file."""

    path: str
    place: Place  # where the entry stands
    image_id: int  # unique in the split
    objects: list[RawObject]
    size: tuple[int, int] | None = None  # (height, width) that the entry claims, if it does
    rank_sign: int = 1  # -1 if lower ranks are more salient in the file
    first_rank: int = 0  # the rank that the file's ranks of an image should start from


def _sizes_in_headers(images: Sequence[RawImage]) -> list[tuple[int, int] | OSError]:
    return image_sizes([image.path for image in images])


@dataclass(frozen=True)
class Format:
    """A dataset format."""

    entries: Callable[[Path, Path, str, IssueLog], Iterable[RawImage]]  # of (root, file, split, log)
    file: str  # the annotations below the root, with alternatives after "|"; {name}: of the root, lower case
    folders: tuple[str, ...] = ()  # what a split needs besides, with alternatives after "|"
    image_field: str = "file_name"  # field of an entry that names the image
    rank_field: str = ""  # field that holds ranks; "" if ties and gaps mean nothing
    xywh: bool = True  # whether ``bbox`` is x, y, width, height (else x1, y1, x2, y2)
    # (height, width) of each image, or the error that reading it raised
    sizes: Callable[[Sequence[RawImage]], list[tuple[int, int] | OSError]] = _sizes_in_headers

    def path(self, root: Path, split: str) -> Path:
        """Return the annotation file (or folder) of a split."""
        choices = [root / part.format(name=root.name.lower(), split=split) for part in self.file.split("|")]
        return next((path for path in choices if path.exists()), choices[0])

    def missing(self, root: Path, split: str) -> list[Path]:
        """Return the files and folders that a complete split has and this one lacks."""
        choices = [[root / part.format(split=split) for part in item.split("|")] for item in self.folders]
        choices.append([self.path(root, split)])
        return [paths[0] for paths in choices if not any(path.exists() for path in paths)]

    def read(
        self,
        root: str | Path,
        split: str,
        *,
        keep_rankless: bool = False,
        issues: IssueLog | None = None,
        file: Path | None = None,
    ) -> list[ImageRecord]:
        """Return a record for each entry of a split, in the order of the annotation file.

        Photographs are not decoded. Objects without a usable mask are left out with a warning.

        Args:
            root: folder of the dataset.
            split: name of the split, such as ``train``.
            keep_rankless: keep objects that are not salient, without a rank, which published code leaves
                out. Crowds are always kept.
            issues: collects issues; by default the first fault raises.
            file: annotations at another place.

        Raises:
            DatasetError: something is missing or broken; the message names file, record and field.
        """
        log = issues or IssueLog()
        images = list(self.entries(Path(root), file or self.path(Path(root), split), split, log))
        sizes = self.sizes(images)
        broken = sum(isinstance(size, OSError) for size in sizes)
        records = []
        for image, size in zip(images, sizes, strict=True):
            known = None if isinstance(size, OSError) else size
            if known is not None and image.size not in (None, known):
                detail = "expected {}x{} as the image has, found {}x{}".format(*known, *(image.size or known))
                image.place.omit("size-disagrees", "height, width", detail)
            objects = self._objects(image, known, keep_rankless)
            if known is not None:
                records.append(ImageRecord(image.path, *known, objects, image.image_id))
                continue
            missing = isinstance(size, FileNotFoundError)
            kind, found = ("missing", "no such image") if missing else ("broken", "a broken file")
            if broken <= log.max_unreadable * len(images):
                logger.warning("%s: expected an image, found %s; left out", image.path, found)
                continue
            detail = f"expected an image, found {found}: {image.path}"
            if broken > 1 and not log.collect:
                detail += f" ({broken - 1} more images are missing or broken)"
            image.place.fault(f"{kind}-image", self.image_field, detail)
        log.log_left_out()
        logger.info("read %d images of %s from %s", len(records), split, root)
        return records

    def _objects(
        self, image: RawImage, size: tuple[int, int] | None, keep_rankless: bool
    ) -> tuple[ObjectRecord, ...]:
        """Return the objects of an image that are kept, with dense ranks."""
        wanted = [item for item in image.objects if item.rank is not None or keep_rankless or item.crowd]
        found = [(item, self._box_and_mask(item, size, image.place)) for item in wanted]
        kept = [(item, *parts) for item, parts in found if parts is not None]
        ranks = [item.rank for item, _, _ in kept if item.rank is not None]
        if self.rank_field and image.place.log.collect and ranks:
            self._note_ranks(image, ranks)
        order = iter(dense_ranks(ranks))
        return tuple(
            ObjectRecord(box, mask, UNRANKED if item.rank is None else next(order), item.crowd, item.label)
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
        x, y, right, bottom = box
        corners = (x, y, x + right, y + bottom) if self.xywh else (x, y, right, bottom)
        return None if mask is None else (corners, mask)

    def _note_ranks(self, image: RawImage, ranks: list[float]) -> None:
        """Note ranks that tie or skip."""
        values, counts = np.unique(np.array(ranks) * image.rank_sign, return_counts=True)
        found = [int(value) if value == int(value) else value for value in values.tolist()]
        if counts.max() > 1:
            tied = [value for value, count in zip(found, counts, strict=True) if count > 1]
            detail = expected("different ranks", tied) + " more than once"
            image.place.note("rank-tie", self.rank_field, detail)
        dense = list(range(image.first_rank, image.first_rank + len(found)))
        if found != dense:
            image.place.note("rank-skip", self.rank_field, expected(str(dense), found))


def file_content(path: Path) -> bytes:
    """Return the bytes of an annotation file, or raise ``DatasetError``."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected an annotation file, found no such file") from None
    except (OSError, ValueError) as error:  # a ValueError: the name holds a null character
        found = getattr(error, "strerror", error)
        raise DatasetError(f"{ascii(str(path))[1:-1]}: expected a readable file, found {found}") from None


def json_file(path: Path, *lists: str) -> Any:
    """Return the content of a JSON file, a list or an object with these lists, or raise ``DatasetError``."""
    data = file_content(path)
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError) as error:  # no JSON, no text, an endless number or nesting
        raise DatasetError(f"{path}: expected JSON, found invalid JSON ({error})") from None
    kind: Any = dict if lists else list
    if not isinstance(content, kind):
        raise DatasetError(f"{path}: {expected('an object' if lists else 'a list of images', content)}")
    for key in lists:
        if not isinstance(content.get(key), list):
            raise DatasetError(f"{path}: field {key}: {expected('a list', content.get(key))}")
    return content


def named_entries(
    entries: Iterable[Any], file: Path, key: str, log: IssueLog, *lists: str
) -> Iterator[tuple[int, str, Place, dict[str, Any]]]:
    """Yield (index, name, place, entry) of a file's entries; report those without a name or these lists."""
    for index, entry in enumerate(entries):
        name = entry.get(key) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            log.at(file, str(index)).fault("bad-record", key, expected("a name", name))
            continue
        place = log.at(file, f"{index} ({last_part(name)})")
        wrong = [field for field in lists if not isinstance(entry.get(field), (list, tuple))]
        for field in wrong:
            place.fault("bad-record", field, expected("a list", entry.get(field)))
        if not wrong:
            yield index, name, place, entry


def last_part(name: str) -> str:
    """Return the last part of a path of any system."""
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def same_count(values: Sequence[Any], objects: Sequence[Any], field: str, place: Place) -> bool:
    """Return whether there is a rank for each object; report it if not."""
    if len(values) != len(objects):
        detail = f"expected {len(objects)} ranks, one for each object, found {len(values)}"
        place.fault("rank-count", field, detail)
    return len(values) == len(objects)


def claimed_size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Return the (height, width) that an entry claims, or None."""
    height, width = as_int(entry.get("height")), as_int(entry.get("width"))
    return None if height is None or width is None else (height, width)


def ranked_object(
    annotation: Any, rank: Any, field: str, rank_field: str, place: Place, label: int | None = None
) -> RawObject | None:
    """Return an object of a COCO annotation; None (and an issue) if its rank is no whole number.

    Crowds and negative ranks have none; ``field`` and ``rank_field`` say where they stand in ``place``.
    """
    number = as_int(rank)
    if rank is not None and number is None:
        place.fault("bad-ranks", rank_field, expected("a whole number", rank))
        return None
    crowd = isinstance(annotation, dict) and bool(annotation.get("iscrowd", 0))
    if crowd or (number is not None and number < 0):
        number = None
    return RawObject(annotation, field, number, crowd, None if number is None else label)
