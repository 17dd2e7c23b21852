"""Building checked models."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model

from sor_ppa.building import build_checked_model, find_weights
from sor_ppa.config import ConfigError
from sor_ppa.engine import run
from sor_ppa.zoo import entry_of_file
from tests.models import REPO, make_cfg
from tests.siamese_detr.tiny import tiny_cfg

DEMO, MASK_RCNN = "configs/sor/demo.yaml", "configs/sor/exp/maskrcnn.yaml"
CONFIGS = sorted(str(p.relative_to(REPO)) for p in (REPO / "configs/sor").rglob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_ranking_config_builds_and_predicts(config: str) -> None:
    model = build_model(make_cfg(config)).eval()
    with torch.no_grad():
        results = model([{"image": torch.zeros(3, 64, 96)}])
    assert results[0]["instances"].has("pred_ranks")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("ANCHOR_GENERATOR__SIZES", [[32], [64]], "AssertionError: "),
        ("RESNETS__STEM_OUT_CHANNELS", 20, "ValueError: num_channels"),
    ],
)
def test_what_detectron2_cannot_build_is_one_line(key: str, value: Any, reason: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"\AMODEL: expected settings that fit together, found {reason}.*\Z"
    ):
        build_checked_model(make_cfg(MASK_RCNN, MODEL__RESNETS__NORM="GN", **{f"MODEL__{key}": value}))


@pytest.mark.parametrize("flags", [["--eval-only"], []])
def test_training_and_evaluation_refuse_by_the_same_line(flags: list[str], tmp_path: Any) -> None:
    options = ["MODEL.SOR.NAME", "Nope", "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path)]
    options += ["MODEL.WEIGHTS", ""] if flags else ["DATASETS.TEST", "()"]
    words = [*flags, "--config-file", str(REPO / DEMO), *options]
    with pytest.raises(ConfigError, match=r"MODEL\.SOR\.NAME: expected one of .*, found 'Nope'"):
        run(default_argument_parser().parse_args(words))


def test_a_transformer_of_one_map_takes_the_coarsest_of_several() -> None:
    cfg = tiny_cfg("RankingDETR")
    cfg.MODEL.SIAMESE_DETR.IN_FEATURES = ["res4", "res5"]
    answers = []
    for each in (tiny_cfg("RankingDETR"), cfg):
        torch.manual_seed(0)
        with torch.no_grad():
            found = build_checked_model(each).eval()([{"image": torch.zeros(3, 64, 96)}])
        answers.append(found[0]["instances"].scores)
    assert torch.equal(*answers)


def test_a_fetched_model_takes_the_place_of_its_published_file(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOR_PPA_CACHE", str(tmp_path))
    published = "pretrained/centermask2-V-39-eSE-FPN-ms-3x.pth"
    with pytest.raises(FileNotFoundError, match=rf"{published} \(run: sor-ppa models get centermask2-v39"):
        find_weights(published)
    fetched = tmp_path / "models" / "centermask2-v39.safetensors"
    fetched.parent.mkdir()
    fetched.touch()
    assert find_weights(published) == find_weights("centermask2-v39") == str(fetched)


@pytest.mark.parametrize("config", sorted((REPO / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_pretrained_file_of_a_config_has_a_source(config: Path) -> None:
    lines = config.read_text().splitlines()
    for before, line in pairwise(lines):
        if "pretrained/" in line and "swav" not in line:
            name = entry_of_file(line.split('"')[1]).name
            assert before.strip() == f"# fetched by: sor-ppa models get {name}"
