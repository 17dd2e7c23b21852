"""Files for the command: a few reference cases as ground truth, instances and painted maps."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from sor_ppa.evaluation import paint
from sor_ppa.evaluation.segmentations import encode_masks

from .cases import cases
from .command import IDS, write


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with truth.json (COCO), pred.json and maps/."""
    images, annotations, predictions = [], [], []
    (tmp_path / "maps").mkdir()
    for number, case_id in enumerate(IDS):
        case = cases()[case_id]
        height, width = case.gt.shape[1:]
        images.append({"id": number, "file_name": f"a/{case_id}.jpg", "height": height, "width": width})
        level = max(case.gt_rank, default=0) - np.array(case.gt_rank, int)
        for rle, rank in zip(encode_masks(case.gt), level.tolist(), strict=True):
            annotations.append({"image_id": number, "segmentation": rle, "rank": rank + 1})
        found = zip(encode_masks(case.pred), case.pred_score, case.pred_confidence, strict=True)
        for rle, rank_score, score in found:
            entry = {"image_id": number, "segmentation": rle, "rank_score": rank_score, "score": score}
            predictions.append(entry)
        cv2.imwrite(str(tmp_path / "maps" / f"{case_id}.png"), paint(case.pred, case.pred_score, "assr"))
    write(tmp_path / "truth.json", {"images": images, "annotations": annotations})
    write(tmp_path / "pred.json", {"images": [image["id"] for image in images], "annotations": predictions})
    return tmp_path
