from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from sor_ppa.data import register_all

settings.register_profile("untimed", deadline=None)  # tests here read and write pictures
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _registration() -> Iterator[None]:
    """Register the datasets again as they were before the test."""
    yield
    register_all()
