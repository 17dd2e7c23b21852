"""Files for the command: a few reference cases as ground truth, instances and painted maps."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from sor_ppa.evaluation import paint
from sor_ppa.evaluation.__main__ import main
from sor_ppa.evaluation.segmentations import encode_masks

from .cases import cases

IDS = ("c000", "c009", "c016", "c046", "c066", "c067", "c083")


def make_files(tmp_path: Path) -> Path:
    """Ground truth as COCO, predictions as JSON, and painted maps of a few reference cases."""
    images, annotations, predictions = [], [], []
    (tmp_path / "maps").mkdir()
    for number, case_id in enumerate(IDS):
        case = cases()[case_id]
        height, width = case.gt.shape[1:]
        images.append({"id": number, "file_name": f"a/{case_id}.jpg", "height": height, "width": width})
        level = max(case.gt_rank, default=0) - np.array(case.gt_rank, int)
        for rle, rank in zip(encode_masks(case.gt), level.tolist(), strict=True):
            entry = {"id": len(annotations), "image_id": number, "category_id": 1, "segmentation": rle}
            annotations.append({**entry, "rank": rank + 1})
        for rle, score, sure in zip(
            encode_masks(case.pred), case.pred_score, case.pred_confidence, strict=True
        ):
            entry = {"image_id": number, "category_id": 1, "segmentation": rle, "rank_score": score}
            predictions.append({**entry, "score": sure})
        cv2.imwrite(str(tmp_path / "maps" / f"{case_id}.png"), paint(case.pred, case.pred_score, "assr"))
    write(tmp_path / "truth.json", {"images": images, "annotations": annotations})
    write(tmp_path / "pred.json", {"images": [image["id"] for image in images], "annotations": predictions})
    return tmp_path


def write(path, content):
    path.write_text(json.dumps(content))


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def run(files, source, *options, truth="truth.json"):
    where = str(files / truth) if truth.endswith(".json") else truth
    return main([str(files / source), where, "--quiet", "--json", str(files / "out.json"), *options])


def result(files):
    return json.loads((files / "out.json").read_text())
