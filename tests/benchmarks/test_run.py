"""The benchmarks run at toy size and write what they promise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

from tests.models import REPO

DEMO = ["--config", "configs/sor/demo.yaml", "--quick", "--runs", "1", "--threads", "1"]


def run(script: str, *words: str) -> str:
    command = [sys.executable, f"benchmarks/{script}.py", *words]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


def test_figures_are_shown_written_and_drawn(tmp_path: Path) -> None:
    shown = run("run", "scale", *DEMO, "--json", str(tmp_path / "all.json"), "--plots", str(tmp_path))
    rows = json.loads((tmp_path / "all.json").read_text())["rows"]["scale"]
    assert all(row["spread"][0] <= row["median"] <= row["spread"][1] for row in rows)
    assert all(row["peak_bytes"] > 0 and f"{row['task']}, {row['variant']}" in shown for row in rows)
    assert [path.name for path in tmp_path.glob("*.png")] == ["scale.png"]


def test_a_variant_that_fails_takes_nothing_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(REPO / "benchmarks")
    loading, timing = import_module("loading"), import_module("timing")
    tasks = {"broken": partial(int, "x"), "dead": partial(os._exit, 1), "sound": dict}
    variants = [timing.Variant(name, dict, ({"a task": task},)) for name, task in tasks.items()]
    variants.append(timing.Variant("unbuilt", int, ("x",)))
    monkeypatch.setattr(loading, "measure", lambda options: timing.compare(variants, options))
    written = tmp_path / "all.json"
    assert import_module("run").main(["loading", "--runs", "2", "--json", str(written)]) == 1
    assert [row["variant"] for row in json.loads(written.read_text())["rows"]["loading"]] == ["sound"]
    shown = capfd.readouterr().err
    assert all(f"{name} failed: " in shown for name in ("unbuilt", "broken", "dead"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["inference", "training", "loading", "evaluation", "export", "video"])
def test_the_other_kinds_run(kind: str) -> None:
    assert ("OpenVINO" if kind in ("export", "video") else "ours") in run("run", kind, *DEMO)


@pytest.mark.slow
def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path: Path) -> None:
    shown = run("bench_gpu", "--device", "cpu", "--quick", "--output", str(tmp_path))
    assert "FAILED" not in shown
    checks = json.loads((tmp_path / "checks.json").read_text())
    assert len(checks) >= 10
    assert all(check["passed"] for check in checks)
    assert json.loads((tmp_path / "speed.json").read_text())["rows"]
    assert json.loads((tmp_path / "curve.json").read_text())["SA-SOR by iteration"]
    assert {path.name for path in tmp_path.glob("*.png")} == {"curve.png", "speed.png"}
