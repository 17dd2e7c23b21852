"""The page that people cite must say what the code does."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from sor_ppa.evaluation import PAINTERS, PUBLISHED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_the_worked_example_holds():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 8
    assert result.failed == 0


@pytest.mark.parametrize(
    "name", sorted({name for names in PUBLISHED.values() for name in names} | set(PAINTERS))
)
def test_every_variant_and_painter_is_named(name):
    assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
