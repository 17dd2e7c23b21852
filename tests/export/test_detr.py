"""Detection transformers with ranks give the same results in a form for export, and exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sor_ppa.export.info import GraphInfo
from sor_ppa.export.runtime import load_graph
from tests.test_detr_batches import DETECTORS, lively

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

SIZES = ((1, 96, 120), (3, 101, 133), (2, 200, 100), (2, 20, 30))
INFO = GraphInfo("", ("thing",), "0", "fp32", 1, "RGB", 0, 0)
TOLERANCES = {"boxes": 1e-3, "scores": 1e-5, "masks": 1e-4, "rank_logits": 1e-3, "rank_scores": 1e-4}


def batch(count: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Images of one size as a graph takes them."""
    pixels = np.random.default_rng(height).random((count, 3, height, width), np.float32) * 255
    return {"images": pixels, "sizes": np.array([[height, width]] * count)}


@torch.no_grad()
def eager(model: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The results of the eager model by the names of a graph's outputs."""
    features, found = model.detect([{"image": torch.from_numpy(image)} for image in inputs["images"]])
    ranked = model.roi_heads.forward_with_given_boxes(features, found)
    fields = {"scores": "scores", "classes": "pred_classes", "masks": "pred_masks", "ranks": "pred_ranks"}
    fields |= {"rank_logits": "pred_rank_logits", "rank_scores": "pred_rank_scores"}
    results = {name: torch.cat([x.get(field) for x in ranked]).numpy() for name, field in fields.items()}
    results["boxes"] = torch.cat([x.pred_boxes.tensor for x in ranked]).numpy()
    results["image_index"] = np.repeat(np.arange(len(ranked)), [len(x) for x in ranked])
    return results


def assert_same(found: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    assert len(expected["ranks"]) > 4
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=TOLERANCES.get(name, 0), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", DETECTORS)
def test_flat_inference_equals_the_eager_one(name: str) -> None:
    model = lively(name)
    for size in SIZES:
        inputs = batch(*size)
        with torch.no_grad():
            found = model.infer_flat(*map(torch.from_numpy, inputs.values()))
        assert_same(found, eager(model, inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["salience", "conditional", "deformable"])
def test_exported_graphs_equal_the_eager_model(name: str, tmp_path: Path) -> None:
    from sor_ppa.export.writer import save_onnx, save_openvino, trace

    model = lively(name)
    proto = trace(model, INFO)
    save_onnx(proto, INFO, tmp_path / "model.onnx")
    save_openvino(proto, INFO, tmp_path / "model_openvino")
    for path in ("model.onnx", "model_openvino"):
        graph = load_graph(tmp_path / path, threads=1)
        for size in SIZES:
            inputs = batch(*size)
            assert_same(graph(inputs), eager(model, inputs))


@pytest.mark.slow
def test_a_model_in_8_bit_integers_runs(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    from sor_ppa.export.writer import save_openvino, trace

    inputs = [batch(*size) for size in SIZES]
    save_openvino(trace(lively("conditional"), INFO), replace(INFO, precision="int8"), tmp_path, inputs)
    graph = load_graph(tmp_path, threads=1)
    for images in inputs:
        found = graph(images)
        assert set(found["image_index"]) <= set(range(len(images["images"])))
        assert np.isfinite(found["rank_scores"]).all()
