"""Errors of the training command."""

from __future__ import annotations

import errno
import logging
from unittest.mock import Mock

import pytest

from sor_ppa.cli import train


@pytest.mark.parametrize(
    ("names", "place"), [((), "OUTPUT_DIR"), (("out/metrics.json",), "out/metrics.json")]
)
def test_a_full_disk_is_one_line(names: tuple[str, ...], place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)  # restored after the test
    error = OSError(errno.ENOSPC, "No space left on device", *names)
    monkeypatch.setattr(train, "run", Mock(side_effect=error))
    with pytest.raises(SystemExit, match=f"^error: disk full: {place}$"):
        train.main([])
