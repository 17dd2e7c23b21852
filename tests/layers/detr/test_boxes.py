"""Box formulas against recorded numbers of the published Salience-DETR."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sor_ppa.layers.detr.boxes import (
    cxcywh_to_xyxy,
    inverse_sigmoid,
    paired_giou,
    paired_iou,
    refine_boxes,
    xyxy_to_cxcywh,
)
from sor_ppa.layers.detr.mlp import MLP
from tests.salience_detr.units import filled, given, unit


@pytest.mark.parametrize(("key", "function"), [("iou", paired_iou), ("giou", paired_giou)])
def test_overlaps_equal_the_published(key: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    a, b = (cxcywh_to_xyxy(boxes) for boxes in given("iou_giou", "a", "b"))
    unit().close(key, function(a[:, None], b))


def test_inverse_sigmoid_equals_the_published() -> None:
    unit().close("inverse_sigmoid", inverse_sigmoid(given("inverse_sigmoid", "x"), eps=1e-3))


def test_refined_boxes_equal_the_published() -> None:
    query, boxes = given("refinement", "query", "boxes")
    offsets = filled(MLP(256, 256, 4, 3), "unit/shared/mlp.")(query)
    unit().close("refined", refine_boxes(offsets, boxes, 1e-3))


def test_corners_and_centers_are_inverse() -> None:
    corners = torch.tensor([[0.1, 0.2, 0.5, 0.9]])
    torch.testing.assert_close(cxcywh_to_xyxy(xyxy_to_cxcywh(corners)), corners)
