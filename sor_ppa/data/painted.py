"""Reader of painted rank maps with instance masks.

::

    images/{split}/NAME.jpg (or .png)    photographs
    gt/{split}/NAME.png                  painted map: gray level = rank (brighter = more salient), 0 = none
    masks/{split}/NAME.png               instance ids (8 or 16 bit, 0 = none); optional
    masks/{split}/NAME/*.png             or one binary mask for each instance

Without instance masks each gray level is one instance, as in the published evaluations. With them, the
rank of an instance is the most frequent level inside it; one without a painted pixel is not salient.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .images import image_finder, in_threads, read_gray
from .issues import DatasetError, IssueLog
from .masks import encode_mask
from .reader import Format, RawImage, RawObject


def _gray(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return gray levels (H, W); ``DatasetError`` if the file is broken, colored or not of this shape."""
    image = read_gray(path)
    if shape is not None and image.shape != shape:
        size, other = "x".join(map(str, shape)), "x".join(map(str, image.shape))
        raise DatasetError(f"{path}: expected {size} as the map has, found {other}")
    return image


def _instance_masks(masks: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Return masks (N, H, W), bool, from an id map ``masks``.png or a folder; None if there is neither."""
    if masks.with_name(f"{masks.name}.png").exists():
        ids = _gray(masks.with_name(f"{masks.name}.png"), shape)
        return ids[None] == np.unique(ids[ids != 0])[:, None, None]
    if not masks.exists():
        return None
    planes = [_gray(path, shape) != 0 for path in sorted(masks.glob("*.png"))]
    return np.array(planes, bool).reshape(-1, *shape)


def painted_objects(painted: np.ndarray, masks: np.ndarray | None = None) -> list[RawObject]:
    """Return the objects of a map (H, W), with RLE masks and gray levels as ranks.

    ``masks`` (N, H, W), bool, are the instances; None: each gray level is one.
    """
    if masks is None:
        levels = np.unique(painted[painted != 0])
        masks = painted[None] == levels[:, None, None]
    else:
        levels = np.array([_mode(painted[mask]) for mask in masks], dtype=np.int64)
    objects: list[RawObject] = []
    for mask, level in zip(masks, levels.tolist(), strict=True):
        if mask.any():
            rle = encode_mask(mask)
            objects.append(RawObject({"segmentation": rle}, f"instance {len(objects)}", level or None))
    return objects


def _mode(values: np.ndarray) -> int:
    """Return the most frequent value except 0 (the smallest of several); 0 if there is none."""
    found, counts = np.unique(values[values != 0], return_counts=True)
    return int(found[counts.argmax()]) if len(found) else 0


def _painted_entries(root: Path, folder: Path, split: str, log: IssueLog) -> Iterator[RawImage]:
    find = image_finder(root / "images" / split)
    maps = sorted(folder.glob("*.png"))
    if not maps:
        raise DatasetError(f"{folder}: expected painted maps (*.png), found none")

    def parse(path: Path) -> tuple[list[RawObject], tuple[int, int]]:
        painted = _gray(path)
        shape = (painted.shape[0], painted.shape[1])
        return painted_objects(painted, _instance_masks(root / "masks" / split / path.stem, shape)), shape

    for index, (path, found) in enumerate(zip(maps, in_threads(parse, maps, DatasetError), strict=True)):
        if isinstance(found, DatasetError):
            log.at(path).fault("broken-map", "", str(found).removeprefix(f"{path}: "))
            continue
        yield RawImage(find(path.stem), log.at(path, path.stem), index, *found)


PAINTED = Format(_painted_entries, "gt/{split}", ("images/{split}",), image_field="name")
