"""The keys of published files, and what they build."""

from __future__ import annotations

import pytest
import torch
from detectron2.modeling import build_model

from tests.models import REPO, make_cfg

CONFIGS = sorted(str(p.relative_to(REPO)) for p in (REPO / "configs/sor").rglob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_builds_and_predicts(config: str) -> None:
    model = build_model(make_cfg(config)).eval()
    with torch.no_grad():
        results = model([{"image": torch.zeros(3, 64, 96)}])
    assert results[0]["instances"].has("pred_ranks")
