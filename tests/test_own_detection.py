"""Plain detection on a COCO file with three classes: train, evaluate and predict by config alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.engine import default_argument_parser

from sor_ppa import SORPredictor
from sor_ppa.config import ConfigError
from sor_ppa.engine import run
from tests.models import REPO

CLASSES = ("cup", "book", "lamp")
SIDE = 64
COMMON = f"""MODEL.DEVICE cpu MODEL.WEIGHTS '' SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 2
    DATALOADER.NUM_WORKERS 0 INPUT.MIN_SIZE_TRAIN ({SIDE},) INPUT.MIN_SIZE_TEST {SIDE}
    DATASETS.TRAIN ('things_train',) DATASETS.TEST ('things_train',)"""
SMALL_DETR = """MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.RES2_OUT_CHANNELS 64 MODEL.SIAMESE_DETR.NUM_CLASSES 3
    MODEL.SIAMESE_DETR.ENCODER_LAYERS 1 MODEL.SIAMESE_DETR.DECODER_LAYERS 1 MODEL.SIAMESE_DETR.HIDDEN_DIM 64
    MODEL.SIAMESE_DETR.FFN_DIM 32 MODEL.SIAMESE_DETR.NUM_QUERIES 10"""
DETECTORS = {
    "CenterMask": """sor/demo.yaml MODEL.SOR.NAME '' MODEL.FCOS.NUM_CLASSES 3 MODEL.ROI_HEADS.NUM_CLASSES 3
        MODEL.FCOS.INFERENCE_TH_TEST 0.0""",
    "Mask R-CNN": """sor/exp/maskrcnn-demo.yaml MODEL.ROI_HEADS.NAME StandardROIHeads
        MODEL.ROI_HEADS.NUM_CLASSES 3 MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0""",
    "Salience-DETR": """salience_detr/demo.yaml MODEL.META_ARCHITECTURE SalienceDETR MODEL.MASK_ON False
        MODEL.SALIENCE_DETR.NUM_CLASSES 3 MODEL.SALIENCE_DETR.TEST_SCORE_THRESH 0.0""",
    "Conditional DETR": f"siamese_detr/conditional_detr_R_50.yaml {SMALL_DETR}",
    "DETR": f"siamese_detr/detr_R_50.yaml {SMALL_DETR}",
    "Deformable DETR": f"siamese_detr/deformable_detr_R_50.yaml {SMALL_DETR}",
}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The entry of DATASETS.OWN for two pictures with a square of each class; ids of classes have gaps."""
    root = tmp_path_factory.mktemp("things")
    images, annotations = [], []
    for number in (7, 8):
        picture = np.full((SIDE, SIDE, 3), 90, np.uint8)
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE})
        for index, category in enumerate((3, 20, 9)):
            x, y = 20 * index + 2, 10 * (number - 6)
            cv2.rectangle(picture, (x, y), (x + 15, y + 29), np.eye(3)[index].tolist(), -1)
            polygon = [x, y, x + 16, y, x + 16, y + 30, x, y + 30]
            item = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
            annotations.append(item | {"bbox": [x, y, 16, 30], "area": 480, "segmentation": [polygon]})
        (root / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(root / "images" / f"{number}.png"), picture)
    categories = [{"id": i, "name": n} for i, n in zip((3, 9, 20), CLASSES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "things.json").write_text(json.dumps(content))
    return f"things_train=detection:{root / 'things.json'}"


def train(entry: str, output: Path, words: str) -> dict:
    config, *options = words.split()
    common = [word.replace("''", "") for word in [*COMMON.split(), *options]]
    own = ["DATASETS.OWN", f"({entry!r},)", "OUTPUT_DIR", str(output)]
    return run(
        default_argument_parser().parse_args(["--config-file", str(REPO / "configs" / config), *common, *own])
    )


@pytest.mark.parametrize("name", list(DETECTORS))
def test_it_trains_evaluates_and_names_classes(things: str, tmp_path: Path, name: str) -> None:
    results = train(things, tmp_path, DETECTORS[name])
    assert {f"AP-{label}" for label in CLASSES} <= set(results["bbox"])
    assert ("segm" in results) == (name in ("CenterMask", "Mask R-CNN"))

    weights = tmp_path / "elsewhere.pth"
    shutil.copy(tmp_path / "model_final.pth", weights)
    picture = next((Path(things.partition(":")[2]).parent / "images").iterdir())
    answer = SORPredictor.from_pretrained(weights)(str(picture))
    assert len(answer.objects) > 0
    assert {item["class"] for item in answer.to_json()["objects"]} <= set(CLASSES)
    assert (answer.draw() != answer.image_bgr[:, :, ::-1]).any()
    config = SORPredictor.from_config_file(tmp_path / "config.yaml", ["MODEL.WEIGHTS", str(weights)])
    assert config.class_names == CLASSES


def test_too_few_classes_are_one_line(things: str, tmp_path: Path) -> None:
    wanted = r"MODEL\.FCOS\.NUM_CLASSES: expected at least 3, the classes of dataset things_train, found 1"
    with pytest.raises(ConfigError, match=wanted):
        train(things, tmp_path, "sor/demo.yaml MODEL.SOR.NAME ''")
