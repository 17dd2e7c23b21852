"""RankingMask2Former gives the same results in a form for export, and exported."""

from __future__ import annotations

import json
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from PIL import Image

from sor_ppa.export.info import GraphInfo
from sor_ppa.export.model import ExportedRanker
from tests.detr import picture
from tests.mask2former.models import small_ranker
from tests.models import REPO

CONFIG = "MODEL: {SOR: {LOSS: plackett_luce}}"
INFO = GraphInfo(CONFIG, ("thing",), "0", "fp32", 32, "RGB", 0, 0, "image")
SIZES = ((64, 96), (50, 70), (64, 80), (33, 41))
TOLERANCES = {"masks": 1e-4, "scores": 1e-5, "rank_logits": 1e-5, "rank_scores": 1e-5}


class EagerGraph:
    """The flat inference of a model in the place of an exported one."""

    info = INFO

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = self.model.infer_flat(*(torch.from_numpy(inputs[name]) for name in ("images", "sizes")))
        return {name: values.numpy() for name, values in found.items()}


@pytest.fixture(scope="module", params=["learned", "seeds"])
def model(request: Any) -> Any:
    ranker = small_ranker("MODEL.MASK_FORMER.SEEDS", request.param == "seeds")
    ranker.nms_threshold = 0.8
    return ranker


def items() -> list[dict[str, Any]]:
    """Images of several sizes; some results have another size."""
    made: list[dict[str, Any]] = [{"image": picture(*size, seed)} for seed, size in enumerate(SIZES)]
    made[1] |= {"height": 100, "width": 140}
    made[2] |= {"height": 31, "width": 40}
    return made


def assert_same(found: Instances, expected: Instances) -> None:
    assert found.image_size == expected.image_size
    assert found.get_fields().keys() == expected.get_fields().keys()
    assert torch.equal(found.pred_ranks, expected.pred_ranks)
    for name, values in expected.get_fields().items():
        torch.testing.assert_close(
            *(getattr(x, "tensor", x) for x in (found.get(name), values)), rtol=1e-4, atol=1e-5
        )


def test_flat_inference_gives_the_eager_results(model: Any) -> None:
    found = ExportedRanker(EagerGraph(model))(items())
    for own, result in zip(found, model(items()), strict=True):
        assert len(result["instances"]) > 1
        assert_same(own["instances"], result["instances"])


def test_the_content_of_the_padding_is_free(model: Any) -> None:
    images, sizes = torch.rand(2, 3, 64, 96) * 255, torch.tensor([[50, 90], [64, 70]])
    other = images.clone()
    other[0, :, 50:] = other[1, :, :, 70:] = 7.0
    with torch.no_grad():
        torch.testing.assert_close(model.infer_flat(images, sizes), model.infer_flat(other, sizes))


def test_no_object(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "score_thresh", 1.0)
    for result in ExportedRanker(EagerGraph(model))(items()):
        assert len(result["instances"]) == 0


def test_the_example_without_torch_finds_the_same_outlines(model: Any) -> None:
    pytest.importorskip("onnxruntime")
    example = runpy.run_path(str(REPO / "examples" / "rank_without_torch.py"))
    info = json.loads(replace(INFO, short_side=64, long_side=96).to_json())
    photo = Image.fromarray(picture(100, 150).permute(1, 2, 0).byte().numpy())
    inputs = example["network_input"](photo, info)
    assert inputs["sizes"].tolist() == [[64, 96]]
    boxes, masks = example["outlines"](EagerGraph(model)(inputs), inputs, photo.size, info)
    image = torch.from_numpy(inputs["images"][0])
    expected = model([{"image": image, "height": 100, "width": 150}])[0]["instances"]
    assert len(masks) == len(expected) > 1
    np.testing.assert_array_equal(boxes, expected.pred_boxes.tensor)
    assert np.mean(np.stack(masks) != expected.pred_masks.numpy()) < 1e-3


@pytest.mark.slow
def test_exported_graphs_equal_flat_inference(model: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    from sor_ppa.export.runtime import load_graph
    from sor_ppa.export.writer import save_onnx, save_openvino, trace

    proto = trace(model, INFO)
    save_onnx(proto, INFO, tmp_path / "model.onnx")
    save_openvino(proto, INFO, tmp_path / "model_openvino")
    pixels = np.random.default_rng(0)
    for height, width, sizes in (
        (96, 128, [[96, 128]]),
        (64, 160, [[64, 160], [33, 150], [64, 129]]),
        (224, 96, [[200, 70], [224, 96]]),
    ):
        images = pixels.random((len(sizes), 3, height, width), np.float32) * 255
        inputs = {"images": images, "sizes": np.array(sizes)}
        expected = EagerGraph(model)(inputs)
        assert len(expected["ranks"]) > len(sizes)
        for path in ("model.onnx", "model_openvino"):
            graph = load_graph(tmp_path / path, threads=1)
            assert graph.info == INFO
            found = graph(inputs)
            assert found.keys() == expected.keys()
            for name, values in expected.items():
                np.testing.assert_allclose(
                    found[name], values, atol=TOLERANCES.get(name, 0), rtol=1e-4, err_msg=name
                )
