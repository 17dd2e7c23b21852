"""COCO average precision of boxes and masks through faster-coco-eval."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from .ground_truth import ImageTruth

logger = logging.getLogger(__name__)
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def coco_ap(
    truths: Sequence[ImageTruth], detections: Mapping[int | str, Sequence[Mapping[str, Any]]], iou_type: str
) -> dict[str, float]:
    """Average precision of one category over the given images.

    Args:
        truths: the images; crowd objects are ignored regions, as COCO does.
        detections: by image id: dicts with ``score``, ``bbox`` (x, y, width, height) and
            ``segmentation`` (compressed RLE); ``mask_score``, where present, ranks masks.
        iou_type: "bbox" or "segm".

    Returns:
        AP, AP50, AP75, APs, APm, APl in percent; NaN where there is no object of that size.
    """
    from pycocotools import mask as coco_mask

    number = {truth.image_id: place + 1 for place, truth in enumerate(truths)}
    annotations: list[dict[str, Any]] = []
    for truth in truths:
        areas = coco_mask.area(list(truth.rles)) if truth.rles else []
        for rle, crowd, box, area in zip(truth.rles, truth.crowd, truth.boxes, areas, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number[truth.image_id],
                    "category_id": 1,
                    "segmentation": _bytes(rle),
                    "bbox": box.tolist(),
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    results = [
        _result(detection, number[image_id], iou_type)
        for image_id in number
        for detection in detections.get(image_id, ())
    ]
    if not results or not annotations:
        value = 0.0 if any(not annotation["iscrowd"] for annotation in annotations) else float("nan")
        return dict.fromkeys(NAMES, value)
    images = [{"id": number[t.image_id], "height": t.height, "width": t.width} for t in truths]
    return _evaluate(images, annotations, results, iou_type)


def _result(detection: Mapping[str, Any], image: int, iou_type: str) -> dict[str, Any]:
    if iou_type == "bbox":
        return {
            "image_id": image,
            "category_id": 1,
            "bbox": list(detection["bbox"]),
            "score": detection["score"],
        }
    score = detection.get("mask_score", detection["score"])
    segmentation = _bytes(detection["segmentation"])
    return {"image_id": image, "category_id": 1, "segmentation": segmentation, "score": score}


def _bytes(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {
        "size": list(rle["size"]),
        "counts": counts.encode("ascii") if isinstance(counts, str) else counts,
    }


def _evaluate(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    results: list[dict[str, Any]],
    iou_type: str,
) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    truth = COCO(
        {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "salient_obj"}],
        }
    )
    evaluation = COCOeval_faster(truth, truth.loadRes(results), iou_type, print_function=logger.debug)
    evaluation.run()
    return {
        name: float(value) * 100 if value >= 0 else float("nan")
        for name, value in zip(NAMES, evaluation.stats, strict=False)
    }
