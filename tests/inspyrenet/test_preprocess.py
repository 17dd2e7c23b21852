"""Sizes against recorded ones."""

from __future__ import annotations

from sor_ppa.inspyrenet.preprocess import dynamic_size

from .fixtures import manifest


def test_dynamic_size() -> None:
    entry = manifest()["units"]["units"]["dynamic_resize"]
    for (width, height), (new_width, new_height) in entry["w_h_to_w_h"]:
        expected = (max(new_height, 32), max(new_width, 32))  # the published rule can give 0
        assert dynamic_size(height, width, entry["L"]) == expected, (height, width)
