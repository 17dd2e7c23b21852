"""Makers of tiny valid dataset folders, with photographs where the machine has some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

PHOTOS = Path(__file__).resolve().parents[2].parent / "shared" / "photos"

DEFAULT_VALUES: tuple[tuple[float, ...], ...] = (
    (1.0, 0.9, 0.8),
    (0.9, 1.0),
    (1.0, -0.3, 0.9, 0.8, 0.7, 0.6),
    (1.0,),
    (0.3, -1.2),
)
"""Rank values of the objects of the first five images (two of the last are not salient)."""


def generated_picture(index: int, height: int, width: int) -> np.ndarray:
    """A smooth noise picture, BGR uint8 (H, W, 3)."""
    generator = np.random.default_rng(index)
    small = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def pictures(count: int, size: tuple[int, int] | None = None) -> list[np.ndarray]:
    """Photographs from the folder beside the project, else generated ones, BGR uint8.

    Args:
        count: how many.
        size: (height, width) to resize to; None: their own sizes, the long side at most 640.
    """
    found = []
    for path in sorted(PHOTOS.glob("*"))[: count if PHOTOS.is_dir() else 0]:
        image = cv2.imread(str(path))
        if image is not None:
            found.append(image)
    shapes = ((120, 160), (96, 128), (150, 100), (128, 128), (90, 170))
    found += [generated_picture(i, *shapes[i % 5]) for i in range(len(found), count)]
    output = []
    for image in found[:count]:
        if size is not None:
            image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
        elif max(image.shape) > 640:
            scale = 640 / max(image.shape)
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        output.append(image)
    return output


def ellipse_polygon(index: int, count: int, height: int, width: int) -> list[float]:
    """Ellipse number ``index`` of ``count`` side by side, 16 points, two decimals."""
    centre_x = width * (index + 0.5) / count
    centre_y = height * (0.35 + 0.3 * (index % 2))
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    x = centre_x + 0.4 * width / count * np.cos(angle)
    y = centre_y + 0.25 * height * np.sin(angle)
    return np.round(np.stack([x, y], axis=1).reshape(-1), 2).tolist()


def polygon_box(polygon: Sequence[float]) -> list[int]:
    """Integer XYXY box around a polygon."""
    points = np.asarray(polygon).reshape(-1, 2)
    low, high = np.floor(points.min(0)), np.ceil(points.max(0))
    return [int(low[0]), int(low[1]), int(high[0]), int(high[1])]


def make_assr_folder(
    root: Path,
    splits: Sequence[str] = ("train", "val", "test"),
    values: Sequence[Sequence[float]] = DEFAULT_VALUES,
    size: tuple[int, int] | None = None,
) -> Path:
    """Write a valid ASSR folder.

    Args:
        root: the folder to make (the dataset itself, such as ``datasets/ASSR``).
        splits: which splits, all with the same pictures under different names.
        values: rank values of the objects of each image.
        size: (height, width) of all images; None: several sizes.

    Returns:
        ``root``.
    """
    images = pictures(len(values), size)
    for split in splits:
        for part in ("images", "gt", "rank_order"):
            (root / part / split).mkdir(parents=True, exist_ok=True)
        entries, names = [], []
        for index, (image, row) in enumerate(zip(images, values, strict=True)):
            name = f"{split}_{index:03d}"
            height, width = image.shape[:2]
            objects, painted = [], np.zeros((height, width), np.uint8)
            for number, value in enumerate(row):
                polygon = ellipse_polygon(number, len(row), height, width)
                objects.append({"bbox": polygon_box(polygon), "segmentation": [polygon]})
                if value > 0.5:
                    points = np.round(np.asarray(polygon).reshape(-1, 1, 2)).astype(np.int32)
                    cv2.fillPoly(painted, [points], int(255 * value))
            cv2.imwrite(str(root / "images" / split / f"{name}.jpg"), image)
            cv2.imwrite(str(root / "gt" / split / f"{name}.png"), painted)
            (root / "rank_order" / split / f"{name}.json").write_text(json.dumps({"rank_order": list(row)}))
            entries.append({"img": name, "object_data": objects})
            names.append(name)
        (root / f"obj_seg_data_{split}.json").write_text(json.dumps(entries))
        (root / f"{split}_images.txt").write_text("\n".join(names) + "\n")
    return root
