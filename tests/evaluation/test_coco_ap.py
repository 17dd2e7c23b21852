"""Average precision against COCO's own implementation."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sor_ppa.evaluation.coco_ap import NAMES, CocoAP
from sor_ppa.evaluation.ground_truth import ImageTruth
from sor_ppa.evaluation.segmentations import encode_masks

from .cases import blobs

SIZE = (120, 160)


def scene(seed: int, image_id: int | str) -> tuple[ImageTruth, list[dict]]:
    generator = np.random.default_rng(seed)
    gt = blobs(generator, 6, SIZE)
    pred = np.concatenate([np.roll(gt, 1, axis=1)[:5], blobs(generator, 4, SIZE)])
    rles, crowd = encode_masks(gt), np.array([False] * 5 + [True])
    boxes = np.array([coco_mask.toBbox(rle) for rle in rles])
    truth = ImageTruth(image_id, str(image_id), *SIZE, tuple(rles), np.arange(6), crowd, boxes)
    detections = []
    for rle, (score, mask_score) in zip(encode_masks(pred), generator.random((9, 2)).tolist(), strict=True):
        shape = {"bbox": coco_mask.toBbox(rle).tolist(), "segmentation": rle}
        detections.append({"score": score, "mask_score": mask_score, **shape})
    return truth, detections


@pytest.mark.parametrize(
    ("iou_type", "score", "shape"), [("bbox", "score", "bbox"), ("segm", "mask_score", "segmentation")]
)
def test_it_equals_pycocotools(iou_type, score, shape):
    scenes, results, annotations = [scene(seed, seed) for seed in range(6)], [], []
    for truth, found in scenes:
        image = {"image_id": truth.image_id, "category_id": 1}
        for rle, crowd, box in zip(truth.rles, truth.crowd, truth.boxes, strict=True):
            entry = {"segmentation": rle, "bbox": box.tolist(), "area": float(coco_mask.area(rle))}
            annotations.append({"id": len(annotations) + 1, **image, **entry, "iscrowd": int(crowd)})
        results += [{**image, "score": entry[score], shape: entry[shape]} for entry in found]
    images = [{"id": seed, "height": SIZE[0], "width": SIZE[1]} for seed in range(6)]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1}], "info": {}}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    detections = {truth.image_id: found for truth, found in scenes}
    ours = CocoAP([truth for truth, _ in scenes])(detections, iou_type)
    expected = [value * 100 if value >= 0 else math.nan for value in evaluation.stats[:6]]
    assert list(ours) == list(NAMES)
    assert list(ours.values()) == pytest.approx(expected, nan_ok=True)


def test_image_ids_may_be_text():
    (truth, found), (number, same) = scene(0, "a"), scene(0, 0)
    expected = CocoAP([number])({0: same}, "segm")
    assert CocoAP([truth])({"a": found}, "segm") == pytest.approx(expected, nan_ok=True)


def test_no_detections_is_zero_and_no_objects_is_undefined():
    truth, found = scene(0, 0)
    assert CocoAP([truth])({}, "bbox")["AP"] == 0
    nothing = ImageTruth(0, "", *SIZE, (), np.zeros(0, int), np.zeros(0, bool), np.zeros((0, 4)))
    assert math.isnan(CocoAP([nothing])({0: found}, "bbox")["AP"])
