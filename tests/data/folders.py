"""Small valid dataset folders of every format, with generated pictures."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

DEFAULT_VALUES: tuple[tuple[float, ...], ...] = (
    (1.0, 0.9, 0.8),
    (0.9, 1.0),
    (1.0, -0.3, 0.9, 0.8, 0.7, 0.6),
    (1.0,),
    (0.3, -1.2),
)
"""ASSR's rank values of the objects of five images (two objects of the last are not salient)."""

Ranks = Sequence[Sequence[int]]

DEFAULT_RANKS: tuple[tuple[int, ...], ...] = ((2, 1, 0), (0, 1), (5, 4, 3, 2, 1, 0), (0,), ())
"""Ranks of the objects of five images, from 0, higher = more salient."""


def generated_picture(index: int, height: int, width: int) -> np.ndarray:
    """A smooth noise picture, BGR uint8 (H, W, 3)."""
    small = np.random.default_rng(index).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def write_pictures(
    folder: Path, split: str, count: int, size: tuple[int, int] | None = None
) -> list[tuple[str, int, int]]:
    """Write ``{split}_000.jpg`` and so on; returns (stem, height, width) of each.

    ``size`` is (height, width) of all; None: several sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shapes = ((120, 160), (96, 128), (150, 100), (128, 128), (90, 170))
    written = [(f"{split}_{index:03d}", *(size or shapes[index % 5])) for index in range(count)]
    for index, (stem, height, width) in enumerate(written):
        cv2.imwrite(str(folder / f"{stem}.jpg"), generated_picture(index, height, width))
    return written


def ellipse_polygon(index: int, count: int, height: int, width: int) -> list[float]:
    """Ellipse number ``index`` of ``count`` side by side, 16 points, two decimals."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    x = width * (index + 0.5) / count + 0.4 * width / count * np.cos(angle)
    y = height * (0.35 + 0.3 * (index % 2)) + 0.25 * height * np.sin(angle)
    return np.round(np.stack([x, y], axis=1).reshape(-1), 2).tolist()


def coco_annotations(count: int, height: int, width: int) -> list[dict[str, Any]]:
    """COCO annotations (bbox x, y, width, height) of ellipses side by side."""
    annotations = []
    for number in range(count):
        polygon = ellipse_polygon(number, count, height, width)
        points = np.asarray(polygon).reshape(-1, 2)
        low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int)
        box = [*low.tolist(), *(high - low).tolist()]
        annotations.append({"bbox": box, "segmentation": [polygon]})
    return annotations


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content) if path.suffix == ".pkl" else json.dumps(content).encode())


def edit(path: Path, change: Callable[[Any], object]) -> None:
    """Change the content of a JSON file or a pickle."""
    data = path.read_bytes()
    content = pickle.loads(data) if path.suffix == ".pkl" else json.loads(data)
    change(content)
    write_json(path, content)


def make_assr_folder(
    root: Path,
    splits: Sequence[str] = ("train",),
    values: Sequence[Sequence[float]] = DEFAULT_VALUES,
    size: tuple[int, int] | None = None,
) -> Path:
    """Write an ASSR folder; every split has the same pictures under different names."""
    for split in splits:
        entries = []
        pictures = write_pictures(root / "images" / split, split, len(values), size)
        for (name, height, width), row in zip(pictures, values, strict=True):
            objects = coco_annotations(len(row), height, width)
            for item in objects:
                x, y, w, h = item["bbox"]
                item["bbox"] = [x, y, x + w, y + h]
            entries.append({"img": name, "object_data": objects})
            write_json(root / "rank_order" / split / f"{name}.json", {"rank_order": list(row)})
        write_json(root / f"obj_seg_data_{split}.json", entries)
        (root / f"{split}_images.txt").write_text("".join(f"{entry['img']}\n" for entry in entries))
    return root


def make_irsr_folder(root: Path, split: str = "train", ranks: Ranks = DEFAULT_RANKS) -> Path:
    """Write an IRSR folder (images in ``rgb``)."""
    entries = []
    pictures = write_pictures(root / "Images" / split / "rgb", split, len(ranks))
    for (stem, height, width), row in zip(pictures, ranks, strict=True):
        annotations = coco_annotations(len(row), height, width)
        name = f"/somewhere/else/{split}/{stem}.jpg"
        entries.append({"file_name": name, "annotations": annotations, "rank": list(row)})
    write_json(root / "Annotations" / f"{split}.pkl", entries)
    return root


def make_sifr_folder(root: Path, split: str = "train", ranks: Ranks = DEFAULT_RANKS) -> Path:
    """Write a SIFR folder."""
    entries = []
    pictures = write_pictures(root / split / "rgb", split, len(ranks))
    for index, ((stem, height, width), row) in enumerate(zip(pictures, ranks, strict=True)):
        annotations = coco_annotations(len(row), height, width)
        annotations = [{**item, "gt_rank": rank} for item, rank in zip(annotations, row, strict=True)]
        entries.append({"file_name": f"{stem}.jpg", "image_id": 100 + index, "annotations": annotations})
    write_json(root / split / f"{split}_annotations.json", entries)
    return root


def make_seqrank_folder(root: Path, split: str = "train", ranks: Ranks = DEFAULT_RANKS) -> Path:
    """Write a folder in SeqRank's layout; each image has one more object, which is not salient."""
    entries = []
    pictures = write_pictures(root / "images" / split, split, len(ranks))
    for (stem, height, width), row in zip(pictures, ranks, strict=True):
        annotations = coco_annotations(len(row) + 1, height, width)
        for item, rank in zip(annotations, [*row, -1], strict=True):
            del item["bbox"]
            item["category_id"] = rank + 1
        entries.append({"image_name": stem, "height": height, "width": width, "annotations": annotations})
    write_json(root / f"{root.name.lower()}_{split}.json", {"__comment__": "", "data": entries})
    return root


def make_coco_folder(root: Path, split: str = "train", ranks: Ranks = DEFAULT_RANKS) -> Path:
    """Write a folder of COCO with ranks; the last object of each image has its rank in attributes."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    pictures = write_pictures(root / "images" / split, split, len(ranks))
    for index, ((stem, height, width), row) in enumerate(zip(pictures, ranks, strict=True)):
        images.append({"id": 7 + index, "file_name": f"{stem}.jpg", "height": height, "width": width})
        for number, item in enumerate(coco_annotations(len(row), height, width)):
            rank: dict[str, Any] = {"rank": row[number]}
            extra = {"attributes": rank} if number == len(row) - 1 else rank
            head = {"id": len(annotations), "image_id": 7 + index, "category_id": 1, "iscrowd": 0}
            annotations.append({**head, **item, **extra})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]}
    write_json(root / "annotations" / f"rank_{split}.json", content)
    return root


def make_painted_folder(
    root: Path, split: str = "train", ranks: Ranks = DEFAULT_RANKS, masks: str | None = "ids"
) -> Path:
    """Write a folder of painted maps; ``masks``: "ids" (one id map), "folder" (one mask each) or None."""
    (root / "gt" / split).mkdir(parents=True)
    (root / "masks" / split).mkdir(parents=True)
    pictures = write_pictures(root / "images" / split, split, len(ranks))
    for (stem, height, width), row in zip(pictures, ranks, strict=True):
        painted, ids = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint16)
        for number, rank in enumerate(row):
            polygon = np.reshape(ellipse_polygon(number, len(row), height, width), (-1, 1, 2))
            cv2.fillPoly(painted, [np.round(polygon).astype(np.int32)], 100 + 20 * rank)
            cv2.fillPoly(ids, [np.round(polygon).astype(np.int32)], 300 + number)
        cv2.imwrite(str(root / "gt" / split / f"{stem}.png"), painted)
        if masks == "ids":
            cv2.imwrite(str(root / "masks" / split / f"{stem}.png"), ids)
        elif masks == "folder":
            (root / "masks" / split / stem).mkdir()
            for number in range(len(row)):
                mask = np.where(ids == 300 + number, 255, 0).astype(np.uint8)
                cv2.imwrite(str(root / "masks" / split / stem / f"{number}.png"), mask)
    return root
