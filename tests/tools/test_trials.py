"""One trial of each kind; `make trials` runs more."""

from __future__ import annotations

from pathlib import Path

import pytest

from trials import Trials


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kills", "parents", "workers", "pictures", "disks"])
def test_a_training_survives(kind: str, tmp_path: Path) -> None:
    passed, text = getattr(Trials(tmp_path, seed=0), kind)(0)
    if passed is None:
        pytest.skip(text)
    assert passed, text
