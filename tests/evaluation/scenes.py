"""A small data set in detectron2's format, and fake predictions for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances

SIZE = (60, 80)


def polygon(box: list[int]) -> list[list[float]]:
    """A rectangle (x1, y1, x2, y2) as COCO polygon."""
    x1, y1, x2, y2 = map(float, box)
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def dataset(count: int = 7) -> list[dict[str, Any]]:
    """Images with 0 to 4 ranked rectangles (labels as ASSR's, not dense), some unranked or crowd."""
    generator = np.random.default_rng(3)
    records = []
    for image_id in range(count):
        annotations: list[dict[str, Any]] = []
        for place in range(image_id % 5):
            x, y = (int(value) for value in generator.integers(0, 40, 2))
            width, height = (int(value) for value in generator.integers(8, 20, 2))
            box = [x, y, x + width, y + height]
            annotations.append(
                {
                    "bbox": box,
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "segmentation": polygon(box),
                    "category_id": 0,
                    "gt_rank": 4 - place if place < 3 else -1,
                    "iscrowd": int(place == 3),
                }
            )
        records.append(
            {
                "file_name": f"images/{image_id:03d}.jpg",
                "image_id": image_id,
                "height": SIZE[0],
                "width": SIZE[1],
                "annotations": annotations,
            }
        )
    return records


def predictions(record: dict[str, Any], *, ranked: bool = True) -> Instances:
    """The ranked objects of an image found exactly, in the right order, and one false positive."""
    boxes = [entry["bbox"] for entry in record["annotations"] if entry["gt_rank"] >= 0]
    ranks = [entry["gt_rank"] for entry in record["annotations"] if entry["gt_rank"] >= 0]
    if record["image_id"] % 2:
        boxes.append([70, 50, 78, 58])
        ranks.append(-1)
    return instances(boxes, ranks if ranked else [-1] * len(ranks))


def instances(boxes: list[list[int]], ranks: list[int]) -> Instances:
    """Rectangles as post-processed instances."""
    count = len(boxes)
    masks = torch.zeros((count, *SIZE), dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    result = Instances(SIZE)
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.scores = torch.linspace(0.9, 0.5, count)
    result.pred_classes = torch.zeros(count, dtype=torch.int64)
    result.pred_masks = masks
    result.mask_scores = torch.linspace(0.8, 0.4, count)
    result.pred_ranks = torch.tensor(ranks, dtype=torch.int64)
    result.pred_rank_scores = torch.tensor(ranks, dtype=torch.float32)
    return result
