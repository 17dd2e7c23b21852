"""Exported models give the results of PyTorch, in every runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import torch

from sor_ppa.config import ConfigError
from sor_ppa.cpu_inference import fold_for_inference
from sor_ppa.export.compare import compare_results
from sor_ppa.export.info import INFO_KEY, GraphInfo
from sor_ppa.export.model import pad_images
from sor_ppa.export.run import ExportError, example_pictures, export_model
from sor_ppa.export.runtime import load_graph
from sor_ppa.export.writer import describe, save_onnx, save_openvino, trace
from sor_ppa.predictor import SORPredictor
from tests.export.rankers import CENTERMASK, MASK_RCNN, ranker_cfg, small_ranker
from tests.models import REPO

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
EXAMPLE = REPO / "examples" / "rank_without_torch.py"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_results_equal_those_of_the_checkpoint(
    exported: dict[str, Path], eager: SORPredictor, format: str
) -> None:
    predictor = SORPredictor.from_pretrained(exported[format], batch_size=3)
    assert predictor.class_names == ("thing",)
    pictures = example_pictures(7)
    expected, found = eager(pictures), predictor(pictures)
    assert sum(len(x.objects) for x in expected) > 10
    agreement = compare_results(zip(expected, found, strict=True))
    assert agreement.equal, agreement
    places = [
        [x.rank_probabilities for result in results for x in result.objects] for results in (expected, found)
    ]
    np.testing.assert_allclose(*places, atol=1e-4)
    quality = [torch.cat([x.instances.mask_scores for x in results]) for results in (expected, found)]
    torch.testing.assert_close(*quality, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_any_number_of_objects(exported: dict[str, Path], format: str) -> None:
    graph = load_graph(exported[format], threads=1)
    images = np.zeros((2, 3, 64, 32), np.float32)
    images[1] = np.random.default_rng(1).random((3, 64, 32)) * 255
    counts = []
    for size in ([1, 1], [64, 32]):
        found = graph({"images": images, "sizes": np.array([[1, 1], size])})
        assert found["masks"].shape == (len(found["ranks"]), 1, 28, 28)
        counts.append(len(found["ranks"]))
    assert counts[0] < counts[1], "the second picture of the second batch has objects"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_threads_share_a_graph(exported: dict[str, Path], format: str) -> None:
    graph = load_graph(exported[format], threads=1)
    pixels = np.random.default_rng(0).random((4, 1, 3, 96, 96), np.float32) * 255
    inputs = [{"images": x, "sizes": np.array([[96, 96]])} for x in pixels]
    alone = [graph(x)["rank_logits"] for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        together = [x["rank_logits"] for x in pool.map(graph, inputs)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_metadata(exported: dict[str, Path]) -> None:
    info = load_graph(exported["onnx"]).info
    assert (info.precision, info.divisibility, info.short_side) == ("fp32", 32, 96)
    assert "SalientObjectRanker" in info.config
    text = exported["onnx"].read_bytes()
    for path in (REPO, exported["weights"]):
        assert str(path).encode() not in text, "a path of this machine"


def test_half_the_size(exported: dict[str, Path], eager: SORPredictor, tmp_path: Path) -> None:
    proto, path = onnx.load(exported["onnx"]), tmp_path / "half.onnx"
    save_onnx(proto, replace(load_graph(exported["onnx"]).info, precision="fp16"), path)
    assert path.stat().st_size < 0.6 * exported["onnx"].stat().st_size
    pictures = example_pictures(4)
    found = SORPredictor.from_pretrained(path)(pictures)
    agreement = compare_results(zip(eager(pictures), found, strict=True))
    assert agreement.same_objects >= 0.75


def test_bfloat16_keeps_deciding_layers_in_float32(exported: dict[str, Path], tmp_path: Path) -> None:
    info = replace(load_graph(exported["onnx"]).info, precision="bf16")
    save_openvino(onnx.load(exported["onnx"]), info, tmp_path)
    layers = ElementTree.parse(tmp_path / "model.xml").iter("layer")
    convolutions = [layer for layer in layers if layer.get("type") == "Convolution"]
    marked = [x for x in convolutions if x.find("rt_info/attribute[@name='precise']") is not None]
    assert len(marked) == 3 * 3, "class, box and centerness on three levels"
    assert len(convolutions) > 40


def test_bfloat16_file_gives_float32_where_a_cpu_has_no_bfloat16(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_openvino(
        onnx.load(exported["onnx"]), replace(load_graph(exported["onnx"]).info, precision="bf16"), tmp_path
    )
    monkeypatch.setattr("sor_ppa.export.runtime.computes_bfloat16", lambda: False)
    pictures = example_pictures(4)
    found, expected = (SORPredictor.from_pretrained(p)(pictures) for p in (tmp_path, exported["openvino"]))
    assert compare_results(zip(expected, found, strict=True)).equal


def test_another_onnx_file_is_refused(tmp_path: Path) -> None:
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "other", [x], [y])
    opset = [onnx.helper.make_opsetid("", 18)]
    other = onnx.helper.make_model(graph, ir_version=8, opset_imports=opset)
    onnx.save(other, tmp_path / "other.onnx")
    with pytest.raises(ValueError, match="expected a model of `sor-ppa export`, found another one"):
        load_graph(tmp_path / "other.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(ValueError, match="broken.onnx: expected an ONNX model"):
        load_graph(tmp_path / "broken.onnx")


def test_settings_that_do_not_export(tmp_path: Path) -> None:
    cfg = ranker_cfg(CENTERMASK, TEST__AUG__ENABLED=True)
    with pytest.raises(ConfigError, match="TEST.AUG.ENABLED"):
        export_model(cfg, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="expected a name that ends in .onnx, found model"):
        export_model(ranker_cfg(CENTERMASK), "model")
    with pytest.raises(ConfigError, match="MODEL.MASKIOU_ON: expected True for mask scores"):
        export_model(ranker_cfg(MASK_RCNN), tmp_path / "model.onnx", mask_scores=True)
    with pytest.raises(ValueError, match="fp32/fp16, .* found onnx in bf16"):
        export_model(cfg, tmp_path / "model.onnx", precision="bf16")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_what_is_no_earlier_export_is_not_replaced(tmp_path: Path, format: str) -> None:
    target = tmp_path / ("photos.onnx" if format == "onnx" else "photos")
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="output: expected a new name or an earlier export, found something"):
        export_model(ranker_cfg(CENTERMASK), target, format=format)
    assert (target / "mine.txt").read_text() == "mine"


def test_what_is_fixed_in_a_file_is_not_changed_silently(exported: dict[str, Path]) -> None:
    path = exported["onnx"]
    SORPredictor.from_pretrained(path, options=["INPUT.MIN_SIZE_TEST", "64", "MODEL.DEVICE", "cpu"])
    with pytest.raises(
        ConfigError, match=r"MODEL\.FCOS\.NMS_TH: expected 0\.5, which is fixed in .*, found 0\.1"
    ):
        SORPredictor.from_pretrained(path, options=["MODEL.FCOS.NMS_TH", "0.1"])
    with pytest.raises(ValueError, match="runtime: expected auto for .*onnx, found 'openvino'"):
        SORPredictor.from_pretrained(path, runtime="openvino")
    assert SORPredictor.from_pretrained(exported["openvino"] / "model.xml").class_names == ("thing",)


def test_disagreement_writes_nothing(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Different(SORPredictor):
        def stream(self, pictures, **options):  # type: ignore[no-untyped-def]
            yield from super().stream([np.flip(p, 1).copy() for p in pictures], **options)

    calls = iter([SORPredictor, Different])
    monkeypatch.setattr("sor_ppa.export.run.SORPredictor", lambda *a, **k: next(calls)(*a, **k))
    monkeypatch.setattr("sor_ppa.export.run.build_loaded_model", lambda cfg, _: small_ranker(cfg))
    proto = onnx.load(exported["onnx"])
    monkeypatch.setattr("sor_ppa.export.run.trace", lambda *_: proto)
    with pytest.raises(ExportError, match="expected the results of PyTorch, found 2 pictures: same objects"):
        export_model(ranker_cfg(CENTERMASK), tmp_path / "m.onnx", pictures=example_pictures(3)[:2])
    assert not list(tmp_path.iterdir())


def test_example_needs_neither_torch_nor_detectron2(
    exported: dict[str, Path], eager: SORPredictor, tmp_path: Path
) -> None:
    (picture,) = example_pictures(2)[:1]
    file, bad = tmp_path / "photo.png", tmp_path / "bad.png"
    bad.write_text("no picture")
    half = np.full((*picture.shape[:2], 1), 128, np.uint8)
    cv2.imwrite(str(file), np.concatenate([picture, half], axis=2))
    block = "import sys, runpy; sys.modules.update(torch=None, detectron2=None, sor_ppa=None);"
    block += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", block, str(EXAMPLE), str(exported["onnx"]), str(file), str(bad)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{bad}: cannot identify image file")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = eager(file).objects
    assert [line["rank"] for line in lines] == [o.rank for o in expected]
    assert [line["class"] for line in lines] == ["thing"] * len(expected)
    np.testing.assert_allclose([line["box"] for line in lines], [o.box for o in expected], atol=0.02)
    areas = np.array([o.mask.sum() for o in expected])
    np.testing.assert_allclose([line["area"] for line in lines], areas, rtol=0.01, atol=2)


@pytest.mark.slow
def test_mask_rcnn(tmp_path: Path) -> None:
    cfg = ranker_cfg(MASK_RCNN, TEST__DETECTIONS_PER_IMAGE=10)
    model = fold_for_inference(small_ranker(cfg))
    info = describe(cfg, model, (), "fp32")
    proto = trace(model, info)
    save_onnx(proto, info, tmp_path / "model.onnx")
    save_openvino(proto, info, tmp_path / "model_openvino")
    scenes = [scene[:160].transpose(2, 0, 1).astype(np.float32) for scene in example_pictures(3)]
    inputs = pad_images(scenes, info.divisibility)
    with torch.no_grad():
        expected = model.infer_flat(*(torch.from_numpy(inputs[key]) for key in ("images", "sizes")))
    for path in (tmp_path / "model.onnx", tmp_path / "model_openvino"):
        found = load_graph(path)(inputs)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values.numpy(), rtol=1e-4, atol=1e-3, err_msg=name)


def test_info_round_trip() -> None:
    info = GraphInfo("MODEL: {}", ("a", "b"), "1", "bf16", 32, "BGR", 480, 640)
    assert GraphInfo.from_json(info.to_json(), INFO_KEY) == info
