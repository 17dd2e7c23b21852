"""Models that were converted to OpenVINO on this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sor_ppa.export.cache import converted_ranker
from sor_ppa.export.compare import compare_results
from sor_ppa.export.model import ExportedRanker
from sor_ppa.export.run import example_pictures
from sor_ppa.predictor import SORPredictor
from tests.export.conftest import SMALL
from tests.export.rankers import CENTERMASK, MASK_RCNN, ranker_cfg


@pytest.fixture
def converted(exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of conversions, which here are copies of one model."""
    monkeypatch.setenv("SOR_PPA_CACHE", str(tmp_path))
    folders = []

    def convert(cfg: object, folder: Path, **_: object) -> None:
        folders.append(folder)
        shutil.copytree(exported["openvino"], folder)
        folder.touch()

    monkeypatch.setattr("sor_ppa.export.run.export_model", convert)
    return folders


def test_auto_takes_a_model_once_it_is_converted(exported: dict[str, Path], converted: list[Path]) -> None:
    cfg = ranker_cfg(CENTERMASK, MODEL__WEIGHTS=str(exported["weights"]))
    assert not isinstance(SORPredictor(cfg).model, ExportedRanker)
    assert isinstance(SORPredictor(cfg, runtime="openvino").model, ExportedRanker)
    assert isinstance(SORPredictor(cfg).model, ExportedRanker)
    assert not isinstance(SORPredictor(cfg, runtime="pytorch").model, ExportedRanker)
    assert len(converted) == 1
    next(converted[0].glob("*.bin")).unlink()
    assert not isinstance(SORPredictor(cfg).model, ExportedRanker), "a damaged one is removed"
    assert isinstance(SORPredictor(cfg, runtime="openvino").model, ExportedRanker)
    cfg.MODEL.FCOS.NMS_TH = 0.7
    assert not isinstance(SORPredictor(cfg).model, ExportedRanker), "another configuration"


@pytest.mark.usefixtures("converted")
def test_the_conversions_used_last_are_kept(
    exported: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sor_ppa.export.cache._KEPT", 2)
    cfg = ranker_cfg(CENTERMASK, MODEL__WEIGHTS=str(exported["weights"]))
    kept = []
    for threshold in (0.5, 0.6, 0.5, 0.7):
        cfg.MODEL.FCOS.NMS_TH = threshold
        assert converted_ranker(cfg, cfg.MODEL.WEIGHTS, "openvino", ())
        kept.append({path.name for path in (tmp_path / "openvino").iterdir()})
    assert [len(names) for names in kept] == [1, 2, 2, 2]
    assert kept[0] < kept[3], "the first one was used again"


@pytest.mark.usefixtures("converted")
def test_many_pictures_are_worth_a_conversion(
    exported: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("the results differ")

    cfg = ranker_cfg(CENTERMASK, **SMALL, MODEL__WEIGHTS=str(exported["weights"]))
    plain, predictor = SORPredictor(cfg, runtime="pytorch"), SORPredictor(cfg)
    for few in (0, 99, 200):
        predictor.prepare(few)
        assert not isinstance(predictor.model, ExportedRanker)
    with monkeypatch.context() as patch:
        patch.setattr("sor_ppa.export.run.export_model", fail)
        SORPredictor(cfg).prepare(10**6)
    assert "not converted to OpenVINO: the results differ" in caplog.text
    for many in (plain, predictor):
        many.prepare(10**6)
    assert not isinstance(plain.model, ExportedRanker)
    assert isinstance(predictor.model, ExportedRanker)
    assert compare_results(zip(*(p(example_pictures(3)) for p in (plain, predictor)), strict=True)).equal


def test_an_unknown_runtime_is_refused(exported: dict[str, Path]) -> None:
    cfg = ranker_cfg(CENTERMASK, MODEL__WEIGHTS=str(exported["weights"]))
    with pytest.raises(ValueError, match="runtime: expected one of auto, pytorch, openvino, found 'jax'"):
        SORPredictor(cfg, runtime="jax")


@pytest.mark.parametrize("config", ["configs/salience_detr/demo.yaml", MASK_RCNN])
def test_openvino_is_not_offered_where_it_was_not_measured_to_be_faster(config: str) -> None:
    cfg = ranker_cfg(config)
    assert converted_ranker(cfg, "", "auto", ()) is None
    with pytest.raises(ValueError, match="runtime: expected pytorch for a model other than CenterMask"):
        converted_ranker(cfg, "", "openvino", ())
