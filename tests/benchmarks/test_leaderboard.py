"""The leaderboard spends its budget, keeps finished runs and averages over the seeds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.models import REPO

from .test_run import run

SCORES = {"SA-SOR-shuffled": 0.0, "SOR": 0.7, "SOR-images": 480.0, "MAE": 0.05, "mask AP": 30.0}


@pytest.fixture(scope="module")
def leaderboard() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPO / "benchmarks"))
        import leaderboard

        sys.modules.pop("leaderboard")
        return leaderboard


def test_the_learning_rate_rises_briefly_and_ends_with_the_budget(leaderboard: ModuleType) -> None:
    factors = [leaderboard.rate_factor(share) for share in (0.0, 0.05, 0.5, 1.0, 1.1)]
    assert factors == pytest.approx([0, 1, 0.5, 0, 0], abs=0.01)


def test_rows_are_means_over_seeds_and_the_best_is_first(leaderboard: ModuleType) -> None:
    runs = [leaderboard.Run({"SA-SOR": value, **SCORES}, 0.1, 0.5, 360.0, 1200) for value in (0.6, 0.7, 0.8)]
    untrained = leaderboard.Run({"SA-SOR": 0.1, **SCORES})
    lines = leaderboard.table({"contrast": [untrained], "centermask": runs}).splitlines()
    assert lines[2].startswith("| CenterMask + PPA | `centermask` | 0.700 ± 0.248 | 0.000 | 0.700 (480) |")
    assert lines[3].startswith("| contrast, training-free | `contrast` | 0.100 |")


@pytest.mark.slow
def test_finished_runs_are_not_repeated(tmp_path: Path) -> None:
    words = ["--systems", "mask2former", "oracle", "--seeds", "1", "--budget", "2", "--count", "12", "2", "4"]
    shown = run("leaderboard", *words, "--workers", "1", "--output", str(tmp_path))
    assert "| oracle: the true masks in the true order | `oracle` | 1.000 |" in shown
    found = json.loads((tmp_path / "mask2former_1/run.json").read_text())
    assert found["seconds"] >= 2
    assert found["images"] > 0
    again = run("leaderboard", *words, "--workers", "1", "--output", str(tmp_path))
    assert "--one" not in again
    assert again.splitlines()[-1] == shown.splitlines()[-1]
    (tmp_path / "mask2former_1/run.json").unlink()
    run("leaderboard", *words, "--workers", "1", "--output", str(tmp_path))
    assert json.loads((tmp_path / "mask2former_1/run.json").read_text()) == found, "scored again, not trained"
