"""Proposals and their selection against recorded numbers."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from sor_ppa.layers.detr.levels import build_levels
from sor_ppa.salience_detr.proposals import default_boxes, select_queries
from tests.salience_detr.reference import arrays
from tests.salience_detr.units import SHAPES, filled, given, partly_padded, unit


def test_default_boxes_and_projection() -> None:
    layers = OrderedDict(enc_output=nn.Linear(256, 256), enc_output_norm=nn.LayerNorm(256))
    project = filled(nn.Sequential(layers), "unit/shared/tw.")
    boxes = default_boxes(partly_padded())
    expected = arrays("unit")["tw_proposals"]
    np.testing.assert_allclose(boxes.logits, expected, rtol=1e-5, atol=1e-6)
    memory = given("encoder_proposals", "memory") * boxes.usable.unsqueeze(-1)
    unit().sample("tw_memory", project(memory))


def test_redundancy_removal() -> None:
    scores = given("query_nms", "scores")
    levels = build_levels([(96, 120)] * 2, (96, 120), SHAPES, torch.device("cpu"))
    usable = torch.ones_like(scores, dtype=torch.bool)
    found = select_queries(scores, usable, levels, count=40)
    unit().equal("nms_index", found)
