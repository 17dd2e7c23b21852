"""Damaged files and random values lead to success or to a documented error; a minute of fuzzing."""

import random

import pytest

from .corpus import write_corpus
from .runner import fuzz
from .targets import TARGETS


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.files])
def test_undamaged_files_are_read(name, tmp_path):
    write_corpus(tmp_path / "corpus")
    target = TARGETS[name]
    files = [path for glob in target.files for path in (tmp_path / "corpus").glob(glob)]
    assert files
    for path in files:
        target.run(tmp_path / "corpus", path, random.Random(0))


def test_no_findings():
    findings = fuzz(2600)
    assert not findings.found, "\n".join(findings.found)
    assert {outcome for _, outcome in findings.counts} == {"read", "refused"}
