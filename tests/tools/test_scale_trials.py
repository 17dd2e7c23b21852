"""One run of each kind; `python tools/scale_trials.py` does more of them, with more images."""

from __future__ import annotations

import pytest

pytest.importorskip("ray", reason="needs ray")
from scale_trials import KINDS, main


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_run_gives_the_rows_of_one_process(kind: str) -> None:
    assert main(["--images", "60", "--shard-size", "7", "--runs", "1", "--kinds", kind]) == 0
