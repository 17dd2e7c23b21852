"""Models in 8-bit integers."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from sor_ppa.export.calibration import calibration_pictures, graph_inputs
from sor_ppa.export.quantization import check_nncf, quantize
from sor_ppa.export.run import example_pictures, export_model
from sor_ppa.export.runtime import load_graph, read_info
from sor_ppa.export.writer import save_openvino
from sor_ppa.predictor import SORPredictor
from sor_ppa.visualization.files import write_image
from tests.export.rankers import CENTERMASK, ranker_cfg

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
pytest.importorskip("nncf")

FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture(scope="module")
def quantized(exported: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small CenterMask, calibrated on two scenes."""
    folder = tmp_path_factory.mktemp("int8")
    info = replace(read_info(exported["openvino"]), precision="int8")
    inputs = graph_inputs(SORPredictor.from_pretrained(exported["openvino"]), example_pictures(3)[:2])
    save_openvino(onnx.load(exported["onnx"]), info, folder, inputs)
    return folder


def three_convolutions() -> Any:
    """Return a model of 8 channels; the output of the second convolution has the name "kept"."""
    from openvino import Model
    from openvino import opset13 as op

    generator = np.random.default_rng(0)

    def convolution(x: Any, channels: int, name: str) -> Any:
        weights = op.constant(generator.standard_normal((16, channels, 3, 3), np.float32) / channels)
        y = op.relu(op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1]))
        y.output(0).set_names({name})
        return y

    pixels = op.parameter([-1, 8, -1, -1], np.float32, name="images")
    pixels.output(0).set_names({"images"})
    y = convolution(convolution(convolution(pixels, 8, "a"), 16, "kept"), 16, "b")
    return Model([y.output(0)], [pixels])


def outputs(x: np.ndarray, *models: Any) -> list[list[np.ndarray]]:
    from openvino import Core

    return [list(Core().compile_model(model, "CPU", FLOAT32)({"images": x}).values()) for model in models]


def test_quantized_convolutions_lose_little() -> None:
    generator = np.random.default_rng(0)
    inputs = [{"images": generator.random((1, 8, 12, size), np.float32)} for size in (12, 20)]
    model = three_convolutions()
    changed = quantize(model, inputs, {"kept"})
    (expected,), (found,) = outputs(inputs[1]["images"], model, changed)
    assert 0 < np.abs(found - expected).max() < 0.03 * expected.max()
    convolutions = [node for node in changed.get_ops() if node.get_type_name() == "Convolution"]
    kinds = [node.input_value(0).get_node().get_type_name() for node in convolutions]
    assert sorted(kinds) == ["FakeQuantize", "FakeQuantize", "Relu"], "the second one is kept"


def test_inputs_that_were_zero_stay_in_floating_point() -> None:
    model = three_convolutions()
    changed = quantize(model, [{"images": np.zeros((1, 8, 12, 12), np.float32)}], set())
    picture = np.random.default_rng(0).random((1, 8, 12, 12), np.float32)
    (expected,), (found,) = outputs(picture, model, changed)
    assert np.abs(found - expected).max() < 0.03 * expected.max()


def test_batch_and_size_are_free(quantized: Path) -> None:
    graph = load_graph(quantized, threads=1)
    generator = np.random.default_rng(0)
    for shape in ((1, 3, 64, 96), (3, 3, 96, 64)):
        images = generator.random(shape, np.float32) * 255
        found = graph({"images": images, "sizes": np.array([shape[2:]] * shape[0])})
        assert set(found["image_index"]) <= set(range(shape[0]))
        assert found["masks"].shape == (len(found["ranks"]), 1, 28, 28)


def test_predictor_runs_it(quantized: Path) -> None:
    for result in SORPredictor.from_pretrained(quantized, batch_size=3)(example_pictures(5)):
        assert [o.rank for o in result.objects] == list(range(1, len(result.objects) + 1))


def test_only_layers_that_do_not_decide_are_quantized(quantized: Path) -> None:
    tree = ElementTree.parse(quantized / "model.xml")
    layers = {layer.get("id"): layer for layer in tree.iter("layer")}
    kinds = {number: layer.get("type") for number, layer in layers.items()}
    convolutions = {number for number, kind in kinds.items() if kind == "Convolution"}
    integer = {
        edge.get("to-layer")
        for edge in tree.iter("edge")
        if edge.get("to-port") == "0" and kinds[edge.get("from-layer")] == "FakeQuantize"
    }
    marked = {n for n in convolutions if layers[n].find("rt_info/attribute[@name='precise']") is not None}
    assert len(marked) == 3 * 3, "class, box and centerness on three levels"
    assert not marked & integer
    assert len(convolutions & integer) > 0.7 * len(convolutions)
    assert read_info(quantized).precision == "int8"


def test_export_without_photos_of_use_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = ranker_cfg(CENTERMASK)
    options = {"format": "openvino", "precision": "int8"}
    with pytest.raises(ValueError, match="calibration: expected photos like yours for int8, found none"):
        export_model(cfg, tmp_path / "model", **options)
    with pytest.raises(ValueError, match="calibration: expected none for bf16, found 1"):
        export_model(cfg, tmp_path / "m", format="openvino", precision="bf16", calibration=["a.jpg"])
    with pytest.raises(ValueError, match="fp32/fp16, .* found onnx in int8"):
        export_model(cfg, tmp_path / "model.onnx", precision="int8", calibration=["a.jpg"])
    with pytest.raises(ValueError, match="calibration: expected pictures that can be read, found none"):
        export_model(cfg, tmp_path / "model", **options, calibration=[tmp_path / "missing.jpg"])
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ImportError, match=r"int8: .*nncf.*; pip install 'sor_ppa\[int8\]'"):
        export_model(cfg, tmp_path / "model", **options, calibration=example_pictures(2))
    assert not list(tmp_path.iterdir())


def test_calibration_takes_what_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr("sor_ppa.export.calibration._log.warning", lambda *words: lines.append(str(words)))
    gray, broken = tmp_path / "gray.png", tmp_path / "broken.jpg"
    write_image(gray, np.full((60, 80), 128, np.uint8))
    broken.write_bytes(b"no picture")
    many = [gray] * 150
    assert calibration_pictures([broken, gray]) == [gray]
    assert len(lines) == 1
    assert "broken.jpg" in lines[0]
    assert 50 < len(calibration_pictures(many)) <= 100


def test_calibration_sees_resized_and_padded_pictures(exported: dict[str, Path]) -> None:
    predictor = SORPredictor.from_pretrained(exported["openvino"])
    inputs = graph_inputs(predictor, example_pictures(3))
    assert [x["images"].shape[2:] for x in inputs] == [(96, 128), (96, 192), (96, 128)]
    assert [tuple(x["sizes"][0]) for x in inputs] == [(96, 128), (96, 171), (96, 128)]


def test_handlers_of_others_keep_their_level() -> None:
    handler = logging.NullHandler()
    logger = logging.getLogger("nncf")
    logger.addHandler(handler)
    check_nncf()
    logger.removeHandler(handler)
    assert handler.level == logging.NOTSET
    assert not logger.isEnabledFor(logging.WARNING)


def test_a_result_that_others_read_is_right() -> None:
    """A convolution without bias, of free size, whose result is an output and the input of another one."""
    from openvino import Model
    from openvino import opset13 as op

    generator = np.random.default_rng(0)

    def convolution(x: Any) -> Any:
        weights = op.constant(generator.standard_normal((8, 8, 3, 3), np.float32))
        return op.convolution(x, weights, [1, 1], [1, 1], [1, 1], [1, 1])

    pixels = op.parameter([-1, 8, -1, -1], np.float32, name="images")
    pixels.output(0).set_names({"images"})
    shared = convolution(op.relu(pixels))
    model = Model([op.result(convolution(shared)), op.result(shared)], [pixels])
    inputs = [{"images": generator.standard_normal((1, 8, 16, 16), np.float32)} for _ in range(3)]
    changed = quantize(model, inputs, set())
    for expected, found in zip(*outputs(inputs[0]["images"], model, changed), strict=True):
        assert np.abs(expected - found).mean() < 0.05 * np.abs(expected).mean()
