"""Resizing against recorded sizes and pixels."""

from __future__ import annotations

import torch

from sor_ppa.salience_detr.preprocessing import resize_as_published, resized_size
from tests.parity import deterministic
from tests.salience_detr.reference import arrays
from tests.salience_detr.units import case, unit


def test_resizing() -> None:
    cases = case("eval_resize")
    for height, width, *expected in arrays("unit")["resize_table"].tolist():
        found = resized_size(height, width, cases["min_size"], cases["max_size"])
        assert list(found) == expected, (height, width)
    cases = case("preprocess")
    image = torch.from_numpy(deterministic().image(*cases["image"])).permute(2, 0, 1)
    found = resize_as_published(image, cases["min_size"], cases["max_size"])
    assert list(found.shape) == cases["out_shape"]
    index = torch.linspace(0, found.numel() - 1, 2000).round().long()
    unit().equal("resized_u8", found.flatten()[index])
