"""A small model in every form; exporting takes seconds, so the tests share it."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from sor_ppa.export.run import example_pictures, export_model
from sor_ppa.export.runtime import load_graph
from sor_ppa.export.writer import save_openvino
from sor_ppa.predictor import SORPredictor
from tests.export.rankers import CENTERMASK, ranker_cfg, small_ranker

SMALL = {"INPUT__MIN_SIZE_TEST": 96, "MODEL__FCOS__INFERENCE_TH_TEST": 0.05}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small CenterMask as weights, ONNX file and OpenVINO folder."""
    folder = tmp_path_factory.mktemp("exported")
    cfg = ranker_cfg(CENTERMASK, **SMALL)
    model = small_ranker(cfg)
    weights = folder / "model.pth"
    torch.save({"model": model.state_dict()}, weights)
    cfg.MODEL.WEIGHTS = str(weights)
    paths = {"weights": weights, "onnx": folder / "model.onnx", "openvino": folder / "model_openvino"}
    assert export_model(
        cfg, paths["onnx"], class_names=["thing"], pictures=example_pictures(3), mask_scores=True
    ).equal
    save_openvino(onnx.load(paths["onnx"]), load_graph(paths["onnx"]).info, paths["openvino"])
    return paths


@pytest.fixture(scope="session")
def eager(exported: dict[str, Path]) -> SORPredictor:
    cfg = ranker_cfg(CENTERMASK, **SMALL, MODEL__WEIGHTS=str(exported["weights"]))
    return SORPredictor(cfg)
