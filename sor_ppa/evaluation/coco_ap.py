"""COCO average precision of boxes and masks through faster-coco-eval."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

from faster_coco_eval import COCO, COCOeval_faster
from pycocotools import mask as mask_util

from .checks import Identity
from .ground_truth import ImageTruth

logger = logging.getLogger(__name__)
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl")
Detections = Mapping[Identity, Sequence[Mapping[str, Any]]]


class CocoAP:
    """Average precision of one category over the given images; crowd objects are ignored regions."""

    def __init__(self, truths: Sequence[ImageTruth]) -> None:
        self._ids = [truth.image_id for truth in truths]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        for number, truth in enumerate(truths):
            self._images.append({"id": number, "height": truth.height, "width": truth.width})
            for rle, crowd, box in zip(truth.rles, truth.crowd, truth.boxes, strict=True):
                entry = {"id": len(self._annotations) + 1, "image_id": number, "category_id": 1}
                shape = {"segmentation": rle, "bbox": box.tolist(), "area": float(mask_util.area(rle))}
                self._annotations.append({**entry, **shape, "iscrowd": int(crowd)})

    def __call__(self, detections: Detections, iou_type: str) -> dict[str, float]:
        """Score detections.

        Args:
            detections: by image id: dicts with ``score``, ``bbox`` (x, y, width, height) and
                ``segmentation`` (RLE); ``mask_score``, where present, orders masks.
            iou_type: "bbox" or "segm".

        Returns:
            AP, AP50, AP75, APs, APm, APl in percent; NaN where there is no object of that size.
        """
        results = []
        for number, image_id in enumerate(self._ids):
            for found in detections.get(image_id, ()):
                result = {"image_id": number, "category_id": 1, "score": found["score"]}
                if iou_type == "bbox":
                    result["bbox"] = list(found["bbox"])
                else:
                    result["segmentation"] = dict(found["segmentation"])
                    result["score"] = found.get("mask_score", found["score"])
                results.append(result)
        if not results or not self._annotations:
            objects = any(not annotation["iscrowd"] for annotation in self._annotations)
            return dict.fromkeys(NAMES, 0.0 if objects else math.nan)
        categories = [{"id": 1, "name": "salient_obj"}]
        truth = COCO({"images": self._images, "annotations": self._annotations, "categories": categories})
        evaluation = COCOeval_faster(truth, truth.loadRes(results), iou_type, print_function=logger.debug)
        evaluation.run()
        stats = [100 * float(value) if value >= 0 else math.nan for value in evaluation.stats]
        return dict(zip(NAMES, stats, strict=False))
