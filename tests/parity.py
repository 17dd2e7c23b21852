"""Access to the parity fixtures that lie beside the project."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1].parent / "shared" / "parity"


def parity_dir(name: str) -> Path:
    """The folder of one system's fixtures; skips the calling test, saying so, where it is absent."""
    folder = ROOT / name
    if not folder.is_dir():
        pytest.skip(f"parity fixtures not found: {folder} (they are distributed apart from the project)")
    return folder


def deterministic() -> ModuleType:
    """The module that fills weights and makes images by rule."""
    path = parity_dir("") / "deterministic.py"
    spec = importlib.util.spec_from_file_location("parity_deterministic", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
