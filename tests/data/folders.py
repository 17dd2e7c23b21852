"""Makers of tiny valid dataset folders, with photographs where the machine has some."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


Ranks = Sequence[Sequence[int]]

DEFAULT_RANKS: tuple[tuple[int, ...], ...] = ((2, 1, 0), (0, 1), (5, 4, 3, 2, 1, 0), (0,), ())
"""Ranks of the objects of five images, from 0, higher = more salient."""


def write_pictures(folder: Path, split: str, count: int) -> list[tuple[str, int, int]]:
    """Write pictures as ``{split}_000.jpg`` and so on; returns (stem, height, width) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for index, image in enumerate(pictures(count)):
        stem = f"{split}_{index:03d}"
        cv2.imwrite(str(folder / f"{stem}.jpg"), image)
        written.append((stem, image.shape[0], image.shape[1]))
    return written


def coco_annotations(count: int, height: int, width: int) -> list[dict[str, Any]]:
    """COCO annotations (bbox x, y, width, height) of ellipses side by side."""
    annotations = []
    for number in range(count):
        polygon = ellipse_polygon(number, count, height, width)
        x1, y1, x2, y2 = polygon_box(polygon)
        annotations.append({"bbox": [x1, y1, x2 - x1, y2 - y1], "segmentation": [polygon]})
    return annotations


def make_irsr_folder(
    root: Path, split: str = "train", ranks: Sequence[Sequence[int]] = DEFAULT_RANKS
) -> Path:
    """Write a valid IRSR folder (images in ``rgb``)."""
    entries = []
    for (stem, height, width), row in zip(
        write_pictures(root / "Images" / split / "rgb", split, len(ranks)), ranks, strict=True
    ):
        annotations = coco_annotations(len(row), height, width)
        name = f"/somewhere/else/{split}/{stem}.jpg"
        entries.append({"file_name": name, "annotations": annotations, "rank": list(row)})
    (root / "Annotations").mkdir(parents=True, exist_ok=True)
    (root / "Annotations" / f"{split}.pkl").write_bytes(pickle.dumps(entries))
    return root


def make_sifr_folder(
    root: Path, split: str = "train", ranks: Sequence[Sequence[int]] = DEFAULT_RANKS
) -> Path:
    """Write a valid SIFR folder."""
    entries = []
    for index, ((stem, height, width), row) in enumerate(
        zip(write_pictures(root / split / "rgb", split, len(ranks)), ranks, strict=True)
    ):
        annotations = coco_annotations(len(row), height, width)
        for annotation, rank in zip(annotations, row, strict=True):
            annotation["gt_rank"] = rank
        entries.append({"file_name": f"{stem}.jpg", "image_id": 100 + index, "annotations": annotations})
    (root / split / f"{split}_annotations.json").write_text(json.dumps(entries))
    return root


def make_seqrank_folder(
    root: Path, split: str = "train", ranks: Sequence[Sequence[int]] = DEFAULT_RANKS
) -> Path:
    """Write a valid folder in SeqRank's layout; each image has one object more that is not salient."""
    entries = []
    for (stem, height, width), row in zip(
        write_pictures(root / "images" / split, split, len(ranks)), ranks, strict=True
    ):
        annotations = coco_annotations(len(row) + 1, height, width)
        annotations = [
            {"segmentation": item["segmentation"], "category_id": rank}
            for item, rank in zip(annotations, [*(rank + 1 for rank in row), 0], strict=True)
        ]
        entries.append({"image_name": stem, "height": height, "width": width, "annotations": annotations})
    content = {"__comment__": "", "data": entries}
    (root / f"{root.name.lower()}_{split}.json").write_text(json.dumps(content))
    return root


def make_coco_folder(
    root: Path, split: str = "train", ranks: Sequence[Sequence[int]] = DEFAULT_RANKS
) -> Path:
    """Write a valid folder of COCO with ranks; the last object of each image has its rank in attributes."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, ((stem, height, width), row) in enumerate(
        zip(write_pictures(root / "images" / split, split, len(ranks)), ranks, strict=True)
    ):
        images.append({"id": 7 + index, "file_name": f"{stem}.jpg", "height": height, "width": width})
        for number, item in enumerate(coco_annotations(len(row), height, width)):
            rank: dict[str, Any] = {"rank": row[number]}
            extra = {"attributes": rank} if number == len(row) - 1 else rank
            head = {"id": len(annotations), "image_id": 7 + index, "category_id": 1, "iscrowd": 0}
            annotations.append({**head, **item, **extra})
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    (root / "annotations" / f"rank_{split}.json").write_text(json.dumps(content))
    return root


def make_painted_folder(
    root: Path,
    split: str = "train",
    ranks: Sequence[Sequence[int]] = DEFAULT_RANKS,
    masks: str | None = "ids",
) -> Path:
    """Write a valid folder of painted maps.

    Args:
        root: the folder.
        split: name of the split.
        ranks: ranks of the objects of each image.
        masks: "ids" (one id map), "folder" (one mask each) or None.
    """
    written = write_pictures(root / "images" / split, split, len(ranks))
    (root / "gt" / split).mkdir(parents=True)
    for (stem, height, width), row in zip(written, ranks, strict=True):
        painted, ids = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint16)
        for number, rank in enumerate(row):
            polygon = np.asarray(ellipse_polygon(number, len(row), height, width)).reshape(-1, 1, 2)
            cv2.fillPoly(painted, [np.round(polygon).astype(np.int32)], 100 + 20 * rank)
            cv2.fillPoly(ids, [np.round(polygon).astype(np.int32)], 300 + number)
        cv2.imwrite(str(root / "gt" / split / f"{stem}.png"), painted)
        if masks == "ids":
            (root / "masks" / split).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / "masks" / split / f"{stem}.png"), ids)
        elif masks == "folder":
            folder = root / "masks" / split / stem
            folder.mkdir(parents=True)
            for number in range(len(row)):
                mask = np.where(ids == 300 + number, 255, 0).astype(np.uint8)
                cv2.imwrite(str(folder / f"{number}.png"), mask)
    return root
