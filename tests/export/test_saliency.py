"""Exported saliency networks give the maps of PyTorch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sor_ppa.backbone.swin import Swin
from sor_ppa.export.calibration import graph_inputs
from sor_ppa.export.info import GraphInfo
from sor_ppa.export.runtime import read_info
from sor_ppa.export.saliency import MapAgreement, compare_maps, exported_saliency
from sor_ppa.inspyrenet import InSPyReNet
from sor_ppa.inspyrenet.network import InSPyReNetNetwork
from sor_ppa.inspyrenet.refine import NetworkRefiner, refine_masks
from sor_ppa.saliency_predictor import SaliencyPredictor
from tests.inspyrenet.test_meta_arch import config
from tests.inspyrenet.test_refine import scene

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

# a single pass at the base size; blends, one of them with windows that do not fit
SIZES = ((70, 60), (128, 160), (211, 97))
OPTIONS = [
    *("MODEL.INSPYRENET.BASE_SIZE", 64, "MODEL.INSPYRENET.RESIZE", "dynamic"),
    *("MODEL.INSPYRENET.THRESHOLD", 80, "MODEL.INSPYRENET.MAX_SHORT_SIDE", 128),
]


@pytest.fixture(scope="module")
def model() -> InSPyReNet:
    """A narrow blending model with random weights."""
    torch.manual_seed(0)
    cfg = config("inspyrenet_swin_b", *OPTIONS)
    swin = Swin(dim=16, depths=(2, 1, 1, 1), heads=(1, 2, 4, 8), window=4)
    network = InSPyReNetNetwork(swin, depth=16, base_size=(64, 64))
    means = {"pixel_mean": cfg.MODEL.PIXEL_MEAN, "pixel_std": cfg.MODEL.PIXEL_STD}
    return InSPyReNet(network=network, **means, **InSPyReNet.inference_options(cfg)).eval()


def pictures() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


class TorchGraph:
    """What an exported model computes, by PyTorch."""

    def __init__(self, model: InSPyReNet) -> None:
        self.model = model

    @torch.no_grad()
    def __call__(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert all(side % 32 == 0 for side in inputs["images"].shape[2:])
        found = self.model.infer_flat(*map(torch.from_numpy, inputs.values()))
        return {name: value.numpy() for name, value in found.items()}


def test_passes_are_blended_from_the_outputs_of_a_graph(
    model: InSPyReNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config("inspyrenet_swin_b", *OPTIONS)
    expected = SaliencyPredictor(cfg, model=model)
    cfg.MODEL.WEIGHTS = "model.onnx"
    monkeypatch.setattr("sor_ppa.export.saliency.load_graph", lambda *_, **__: TorchGraph(model))
    found = SaliencyPredictor(cfg)
    agreement = compare_maps((expected(picture), found(picture)) for picture in pictures())
    assert agreement.equal, agreement


def test_a_graph_sharpens_masks_as_the_network_does(
    model: InSPyReNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sor_ppa.export.saliency.load_graph", lambda *_, **__: TorchGraph(model))
    exported = exported_saliency(config("inspyrenet_swin_b", *OPTIONS), "model.onnx")
    image, _, coarse = scene()
    expected, found = (
        refine_masks(image, coarse[None], NetworkRefiner(x, largest=100)) for x in (model, exported)
    )
    assert (expected != coarse).any()
    np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def exported(model: InSPyReNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sor_ppa.export.writer import save_onnx, save_openvino, trace

    folder = tmp_path_factory.mktemp("saliency")
    info = GraphInfo("", (), "0", "fp32", model.export_divisibility, "RGB", 0, 0)
    proto = trace(model, info)
    save_onnx(proto, info, folder / "model.onnx")
    save_openvino(proto, info, folder / "model_openvino")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.onnx", "model_openvino"])
def test_maps_equal_those_of_the_model(model: InSPyReNet, exported: Path, name: str) -> None:
    cfg = config("inspyrenet_swin_b", *OPTIONS)
    expected = SaliencyPredictor(cfg, model=model)
    cfg.MODEL.WEIGHTS = str(exported / name)
    found = SaliencyPredictor(cfg)
    agreement = compare_maps((expected(picture), found(picture)) for picture in pictures())
    assert agreement.equal, agreement


@pytest.mark.slow
def test_maps_in_8_bit_integers_are_close(model: InSPyReNet, exported: Path, tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    import onnx

    from sor_ppa.export.writer import save_openvino

    cfg = config("inspyrenet_swin_b", *OPTIONS)
    expected = SaliencyPredictor(cfg, model=model)
    cfg.MODEL.WEIGHTS = str(exported / "model_openvino")
    inputs = graph_inputs(SaliencyPredictor(cfg), pictures())
    info = replace(read_info(exported / "model_openvino"), precision="int8")
    save_openvino(onnx.load(exported / "model.onnx"), info, tmp_path, inputs)
    cfg.MODEL.WEIGHTS = str(tmp_path)
    found = SaliencyPredictor(cfg)
    agreement = compare_maps((expected(picture), found(picture)) for picture in pictures())
    assert agreement.usable, agreement


def test_different_maps_do_not_agree() -> None:
    zeros = np.zeros((2, 2), np.float32)
    assert compare_maps([(zeros, zeros)]) == MapAgreement(1, 0, 0)
    assert not compare_maps([(zeros, zeros + np.float32(0.001))]).equal
