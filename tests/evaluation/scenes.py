"""A small data set in detectron2's format, and fake predictions for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from detectron2.structures import Boxes, BoxMode, Instances

SIZE = (60, 80)


def dataset(count: int = 7) -> list[dict[str, Any]]:
    """Images with 0 to 4 ranked rectangles (labels as ASSR's, not dense), some unranked or crowd."""
    generator = np.random.default_rng(3)
    records = []
    for image_id in range(count):
        annotations: list[dict[str, Any]] = []
        for place in range(image_id % 5):
            left, top = generator.integers(0, 40, 2).tolist()
            width, height = generator.integers(8, 20, 2).tolist()
            right, bottom = left + width, top + height
            shape = {
                "bbox": [left, top, right, bottom],
                "bbox_mode": BoxMode.XYXY_ABS,
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
            }
            ranked = {"gt_rank": 4 - place if place < 3 else -1, "iscrowd": int(place == 3)}
            annotations.append({**shape, "category_id": 0, **ranked})
        size = {"height": SIZE[0], "width": SIZE[1]}
        names = {"file_name": f"images/{image_id:03d}.jpg", "image_id": image_id}
        records.append({**names, **size, "annotations": annotations})
    return records


def predictions(record: dict[str, Any]) -> Instances:
    """The ranked objects of an image found exactly, in the right order, and one false positive."""
    ranked = [entry for entry in record["annotations"] if entry["gt_rank"] >= 0]
    if record["image_id"] % 2:
        ranked.append({"bbox": [70, 50, 78, 58], "gt_rank": -1})
    return instances([entry["bbox"] for entry in ranked], [entry["gt_rank"] for entry in ranked])


def instances(boxes: list[list[int]], ranks: list[int]) -> Instances:
    """Rectangles as post-processed instances."""
    count = len(boxes)
    masks = torch.zeros((count, *SIZE), dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    result = Instances(SIZE, pred_masks=masks, pred_classes=torch.zeros(count, dtype=torch.int64))
    result.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    result.scores, result.mask_scores = torch.linspace(0.9, 0.5, count), torch.linspace(0.8, 0.4, count)
    result.pred_ranks = torch.tensor(ranks, dtype=torch.int64)
    result.pred_rank_scores = torch.tensor(ranks, dtype=torch.float32)
    return result
