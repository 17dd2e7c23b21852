"""Configuration files and overrides: what is read, and what is refused in one line."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from detectron2.modeling import build_model

from sor_ppa.config import ConfigError, load_config, settle_config
from tests.models import REPO, make_cfg

DEMO = REPO / "configs/sor/demo.yaml"
FCOS, BOX = "MODEL.FCOS.INFERENCE_TH_TEST", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("MODEL: {SOR: {NAMEE: X}}\nVERSION: 2", "MODEL.SOR.NAMEE: expected a configuration key, found an"),
        ("MODEL: {SOR: {NUM_RANKS: five}}\nVERSION: 2", "MODEL.SOR.NUM_RANKS: expected int, found str"),
        ("MODEL: {SOR: 5}\nVERSION: 2", "MODEL.SOR: expected keys and values, found int"),
        ("_BASE_: nowhere.yaml", ".*nowhere.yaml"),
        ("_BASE_: own.yaml", "expected _BASE_ files that end, found a file that is its own base"),
        ("- MODEL", "expected a YAML mapping of keys to values"),
        ("", "expected a YAML mapping of keys to values"),
        ("a: &a 1\nb: [" + 17 * "*a, " + "]", "expected at most 16 YAML aliases, found more"),
        ("a: " + 60 * "[" + 60 * "]", "expected at most 50 nested lists or mappings, found more"),
        ("MODEL: [", ".*expected the node content"),
        ("\x00", ".*not allowed"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=rf"\A{file}: {reason}.*\Z"):
        load_config(file)


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    file, trace = tmp_path / "own.yaml", tmp_path / "trace"
    file.write_text(f'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{trace}"]')
    with pytest.raises(
        ConfigError,
        match=r"\A.*own.yaml: line 1 of .*: expected plain values, found the tag .*os.mkdir; .*\Z",
    ):
        load_config(file)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["MODEL.NO_SUCH_KEY", "1"], "command line: MODEL.NO_SUCH_KEY: expected a configuration key"),
        (["SEED", "one"], "command line: SEED: expected int, found str"),
        (["SEED"], "command line: expected pairs of key and value, found a key without a value"),
        (["SOLVER.BASE_LR", "-1.0"], r"SOLVER.BASE_LR: expected a number in \[0, inf\), found -1.0"),
        (["MODEL.DEVICE", "tpu"], "MODEL.DEVICE: expected a device such as 'cuda'.* found 'tpu'"),
    ],
)
def test_a_wrong_override_is_one_line(options: list[str], line: str) -> None:
    with pytest.raises(ConfigError, match=rf"\A{line}.*\Z"):
        load_config(DEMO, options)


@pytest.mark.parametrize("name", ["sor/demo.yaml", "configs/sor/demo.yaml"])
def test_a_config_of_the_package_is_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(name) == load_config(DEMO)
    with pytest.raises(ConfigError, match=r"\Asor/none.yaml: expected a config file, found no such file\Z"):
        load_config("sor/none.yaml")


def test_keys_of_the_model_are_left_to_building() -> None:
    assert load_config(DEMO, ["MODEL.SOR.NAME", "RegisteredLater"]).MODEL.SOR.NAME == "RegisteredLater"


def test_without_a_gpu_the_model_runs_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with caplog.at_level(logging.INFO, "sor_ppa"):
        assert load_config(DEMO, ["MODEL.DEVICE", "cuda:1"]).MODEL.DEVICE == "cpu"
    assert "MODEL.DEVICE is cuda:1; no GPU is available, so the model runs on the CPU" in caplog.text
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_the_published_architecture_becomes_batch_independent(tmp_path: Path) -> None:
    published = tmp_path / "published.yaml"
    published.write_text(f"_BASE_: {DEMO}\nMODEL: {{META_ARCHITECTURE: GeneralizedRCNN}}")
    assert load_config(published).MODEL.META_ARCHITECTURE == "SalientObjectRanker"


@pytest.mark.parametrize(
    ("options", "fcos", "box"),
    [
        ([], 0.3, 0.3),
        ([FCOS, 0.05], 0.05, 0.3),
        ([FCOS, 0.0, BOX, 0.5], 0.0, 0.5),
        (["MODEL.SOR.NAME", ""], 0.05, 0.05),
        (["MODEL.ROI_HEADS.NAME", "StandardROIHeads"], 0.05, 0.05),
    ],
)
def test_a_score_threshold_that_a_file_names_wins(options: list[Any], fcos: float, box: float) -> None:
    cfg = make_cfg(None, MODEL__ROI_HEADS__NAME="CenterROIHeads")
    cfg.merge_from_list(options)
    settle_config(cfg)
    assert (fcos, box) == (cfg.MODEL.FCOS.INFERENCE_TH_TEST, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)


@pytest.mark.parametrize(("heads", "threshold"), [("MaskRCNNHeads", 0.3), ("StandardROIHeads", 0.05)])
def test_score_thresholds_of_models_built_by_detectron2_alone(heads: str, threshold: float) -> None:
    cfg = make_cfg("configs/sor/exp/maskrcnn-demo.yaml", MODEL__ROI_HEADS__NAME=heads)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = make_cfg(None).MODEL.ROI_HEADS.SCORE_THRESH_TEST
    predictor = build_model(cfg).roi_heads.box_predictor
    assert predictor.test_score_thresh == pytest.approx(threshold, abs=1e-12)
