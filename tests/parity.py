"""Where the parity fixtures are: beside the project, or the copies that it keeps."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests import deterministic as _deterministic

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "parity"
COPIES = Path(__file__).resolve().parent / "fixtures"


def parity_dir(name: str) -> Path:
    """The folder of one system's fixtures; skips the calling test, saying so, where there is none."""
    for folder in (SHARED / name, COPIES / name):
        if folder.is_dir():
            return folder
    pytest.skip(f"parity fixtures not found: neither {SHARED / name} nor {COPIES / name}")


def originals_dir(name: str) -> Path:
    """The folder of one system's whole fixtures beside the project; skips the test, saying so, without it."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"original parity fixtures not found: {SHARED / name} (the copies are tested)")
    return SHARED / name


def deterministic() -> ModuleType:
    """The module that fills weights and makes images by rule."""
    return _deterministic
