"""docs/metrics.md says what the code does."""

from __future__ import annotations

import doctest
from pathlib import Path

from sor_ppa.evaluation.report import definitions_markdown

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def test_the_worked_example_holds():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted > 8
    assert result.failed == 0


def test_the_definitions_are_made_from_the_table():
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("--list markdown -->\n")[2].partition("<!-- end -->")[0]
    assert section == definitions_markdown(), "replace it by python -m sor_ppa.evaluation --list markdown"
