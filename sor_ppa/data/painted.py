"""Reader of painted rank maps with instance masks.

::

    images/{split}/NAME.jpg (or .png)    photographs
    gt/{split}/NAME.png                  painted map: grey level = rank (brighter = more salient), 0 = none
    masks/{split}/NAME.png               instance ids (8 or 16 bit, 0 = none); optional
    masks/{split}/NAME/*.png             or one binary mask for each instance

Without instance masks each grey level is one instance, as the published evaluations take it (objects
with equal ranks then merge, and what another object covers is lost). With them, the rank of an
instance is the most frequent level of the map inside it, 0 excluded; an instance without any painted
pixel is not salient.
"""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from .assemble import Draft, Place, assemble
from .faults import DatasetError, FaultSink
from .record import UNRANKED, ImageRecord, ObjectRecord, dense_ranks

__all__ = ["painted_files", "painted_objects", "read_painted"]

logger = logging.getLogger(__name__)

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")


def painted_files(root: Path, split: str) -> list[Path]:
    """Map and mask files of a split, sorted."""
    files = sorted((root / "gt" / split).glob("*.png"))
    return files + sorted((root / "masks" / split).rglob("*.png"))


def _instance_masks(masks: Path | None, shape: tuple[int, int]) -> np.ndarray | None:
    """(N, H, W) bool from an id map or a folder of masks; None where there is neither."""
    if masks is None:
        return None
    if masks.is_dir():
        planes = [_grey(path, shape) != 0 for path in sorted(masks.glob("*.png"))]
        return np.stack(planes) if planes else np.zeros((0, *shape), bool)
    ids = _grey(masks, shape)
    return ids[None] == np.unique(ids[ids != 0])[:, None, None]


def _grey(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """A one-channel PNG (H, W).

    Raises:
        DatasetError: it cannot be read, has other sizes, or colours.
    """
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise DatasetError(f"{path}: not a readable image")
    if image.ndim == 3:
        if image.shape[2] != 3 or (image != image[..., :1]).any():
            raise DatasetError(f"{path}: found {image.shape[2]} channels, expected grey levels")
        image = image[..., 0]
    if shape is not None and image.shape != shape:
        found, expected = "x".join(map(str, image.shape)), "x".join(map(str, shape))
        raise DatasetError(f"{path}: found {found}, expected {expected} as its map")
    return image


def painted_objects(
    painted: np.ndarray, masks: np.ndarray | None = None, *, keep_rankless: bool = False
) -> tuple[ObjectRecord, ...]:
    """Objects of a painted map.

    Args:
        painted: (H, W) grey levels, 0 = nothing.
        masks: (N, H, W) bool instances; None: each grey level is one.
        keep_rankless: keep instances without any painted pixel.

    Returns:
        objects with compressed RLE masks; ranks dense from 0 by grey level, equal levels tie.
    """
    from pycocotools import mask as mask_util

    if masks is None:
        levels = np.unique(painted[painted != 0])
        masks = painted[None] == levels[:, None, None]
    else:
        levels = np.array([_mode(painted[mask]) for mask in masks], dtype=np.int64)
    used = masks.any(axis=(1, 2)) & ((levels > 0) | keep_rankless)
    masks, levels = masks[used], levels[used]
    order = iter(dense_ranks(levels[levels > 0].tolist()))
    objects = []
    for mask, level in zip(masks, levels.tolist(), strict=True):
        rle = mask_util.encode(np.asfortranarray(mask, dtype=np.uint8))
        x, y, width, height = mask_util.toBbox(rle).tolist()
        rle = {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        rank = next(order) if level > 0 else UNRANKED
        objects.append(ObjectRecord((x, y, x + width, y + height), rle, rank))
    return tuple(objects)


def _mode(values: np.ndarray) -> int:
    """Most frequent value that is not 0 (the smallest of several); 0 where there is none."""
    found, counts = np.unique(values[values != 0], return_counts=True)
    return int(found[counts.argmax()]) if len(found) else 0


def read_painted(
    root: str | Path, split: str, *, keep_rankless: bool = False, sink: FaultSink | None = None
) -> list[ImageRecord]:
    """Read one split of a folder of painted maps. The maps are decoded, the photographs are not.

    Args:
        root: the folder that holds ``images``, ``gt`` and perhaps ``masks``.
        split: any name.
        keep_rankless: keep instances that are not salient.
        sink: collects faults; by default the first serious one raises.

    Raises:
        DatasetError: something is missing or broken; the message names the file.
    """
    sink = sink or FaultSink()
    root = Path(root)
    folder = root / "gt" / split
    maps = sorted(folder.glob("*.png"))
    if not maps:
        raise DatasetError(f"{folder}: no painted maps (*.png) found")
    images = {
        path.stem: path for path in (root / "images" / split).glob("*") if path.suffix in _IMAGE_SUFFIXES
    }

    def objects_of(path: Path) -> tuple[tuple[ObjectRecord, ...], tuple[int, int]] | DatasetError:
        try:
            painted = _grey(path)
            shape = (painted.shape[0], painted.shape[1])
            candidates = [root / "masks" / split / f"{path.stem}.png", root / "masks" / split / path.stem]
            masks = _instance_masks(next((item for item in candidates if item.exists()), None), shape)
            return painted_objects(painted, masks, keep_rankless=keep_rankless), shape
        except DatasetError as error:
            return error

    with ThreadPoolExecutor(min(32, 2 * (os.cpu_count() or 1))) as pool:
        found = list(pool.map(objects_of, maps))
    drafts = []
    for path, result in zip(maps, found, strict=True):
        place = Place(path, path.stem)
        if isinstance(result, DatasetError):
            if not sink.collect:
                raise result
            sink.serious("broken-map", path, "", "", str(result).removeprefix(f"{path}: "))
            continue
        image = images.get(path.stem, root / "images" / split / f"{path.stem}.jpg")
        drafts.append(Draft(str(image), place, result[0], None, result[1]))
    records = assemble(drafts, "name", sink)
    sink.summarise()
    logger.info("read %d images of %s from %s", len(records), split, root)
    return records
