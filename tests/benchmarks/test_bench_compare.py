"""The benchmark of ``sor-ppa compare`` runs at toy size."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_run import run


@pytest.mark.slow
def test_simulated_methods_are_compared_and_timed(tmp_path: Path) -> None:
    shown = run(
        "bench_compare", "--images", "60", "--methods", "2", "--workers", "1", "--keep", str(tmp_path)
    )
    assert "60 images, 2 methods: " in shown
    assert (tmp_path / "report/compare.html").is_file()
