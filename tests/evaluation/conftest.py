"""Fixtures of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command_files import make_files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with truth.json, pred.json and maps/."""
    return make_files(tmp_path)
