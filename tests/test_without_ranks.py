"""A detector without a ranking branch: `MODEL.SOR.NAME ""`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model

from sor_ppa.building import build_checked_model
from sor_ppa.checkpoint import SORCheckpointer
from sor_ppa.data.builtin import register_all
from sor_ppa.data.synthetic import SyntheticSpec, write_dataset
from sor_ppa.engine import run
from tests.centermask.test_batches import images
from tests.models import REPO, make_cfg

DEMO = "configs/sor/demo.yaml"


@pytest.fixture(autouse=True)
def _registered() -> object:
    yield
    register_all()


@pytest.mark.parametrize("views", ["False", "True"])
def test_it_trains_and_gets_average_precision(tmp_path: Path, views: str) -> None:
    spec = SyntheticSpec({"train": 4, "val": 2, "test": 2}, (96, 128, 96, 128))
    write_dataset(tmp_path / "synthetic_sor", spec, workers=1)
    options = f"""DATASETS.ROOT {tmp_path} OUTPUT_DIR {tmp_path / "out"} MODEL.DEVICE cpu SOLVER.MAX_ITER 1
        SOLVER.IMS_PER_BATCH 2 INPUT.MIN_SIZE_TRAIN (96,) INPUT.MIN_SIZE_TEST 96 DATALOADER.NUM_WORKERS 0
        MODEL.FCOS.INFERENCE_TH_TEST 0.0 TEST.AUG.ENABLED {views} TEST.AUG.SCALES (1.0,)""".split()
    options += ["MODEL.SOR.NAME", ""]
    results = run(default_argument_parser().parse_args(["--config-file", str(REPO / DEMO), *options]))
    augmented = {"bbox_TTA", "segm_TTA"} if views == "True" else set()
    assert set(results or {}) == {"bbox", "segm"} | augmented
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    assert any("loss_mask" in line for line in lines)
    assert not any("sor_loss" in line for line in lines)


@torch.no_grad()
def test_a_detector_of_80_classes_loads_whole_and_answers_alike(tmp_path: Path) -> None:
    classes = {"MODEL__FCOS__NUM_CLASSES": 80, "MODEL__ROI_HEADS__NUM_CLASSES": 80}
    options: dict[str, Any] = {"MODEL__SOR__NAME": "", "MODEL__FCOS__INFERENCE_TH_TEST": 0.0, **classes}
    torch.manual_seed(0)
    source = build_model(make_cfg(DEMO, **options)).eval()
    torch.save({"model": source.state_dict(), "iteration": 1}, tmp_path / "coco.pth")
    model = build_checked_model(make_cfg(DEMO, **options)).eval()
    SORCheckpointer(model).load(str(tmp_path / "coco.pth"), complete=True)
    batch = images([(64, 96)])
    expected, found = (m(batch)[0]["instances"] for m in (source, model))
    assert len(found) > 0
    assert len(found.pred_classes.unique()) > 1
    assert torch.equal(found.mask_scores, expected.mask_scores)
    assert not found.has("pred_ranks")
