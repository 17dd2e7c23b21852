"""The keys of published files, and what they build."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from sor_ppa.config import ConfigError, load_config
from tests.models import REPO, make_cfg

CONFIGS = sorted(str(p.relative_to(REPO)) for p in (REPO / "configs/sor").rglob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_builds_and_predicts(config: str) -> None:
    model = build_model(make_cfg(config)).eval()
    with torch.no_grad():
        results = model([{"image": torch.zeros(3, 64, 96)}])
    assert results[0]["instances"].has("pred_ranks")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: {SOR: {NAMEE: X}}\nVERSION: 2", "Non-existent config key: MODEL.SOR.NAMEE"),
        ("MODEL: {SOR: {NUM_RANKS: five}}\nVERSION: 2", "config key: MODEL.SOR.NUM_RANKS"),
        ("_BASE_: nowhere.yaml", "nowhere.yaml"),
        ("- MODEL", "found no keys and values"),
        ("", "found no keys and values"),
        ("MODEL: [", "expected the node content"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_config(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_file_of_other_bytes_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="own.yaml: "):
        load_config(file)


def test_a_file_runs_no_code(tmp_path: Path) -> None:
    file, trace = tmp_path / "own.yaml", tmp_path / "trace"
    file.write_text(f'OUTPUT_DIR: !!python/object/apply:os.mkdir ["{trace}"]')
    with pytest.raises(ConfigError, match="could not determine a constructor"):
        load_config(file)
    assert not trace.exists()
