"""IoU losses of distances."""

from __future__ import annotations

import math

import pytest
import torch

from sor_ppa.layers import distance_iou_loss

PRED = torch.tensor([[4.0, 4, 4, 4], [2, 2, 2, 2]])
TARGET = torch.tensor([[4.0, 4, 4, 4], [2, 2, 6, 2]])
IOU = (16 + 1) / (32 + 1)  # of the second pair; the areas are 16 and 32


@pytest.mark.parametrize(
    ("kind", "expected"), [("iou", -math.log(IOU)), ("linear_iou", 1 - IOU), ("giou", 1 - IOU)]
)
def test_equal_boxes_cost_nothing_and_others_by_their_iou(kind: str, expected: float) -> None:
    assert distance_iou_loss(PRED, TARGET, kind=kind).item() == pytest.approx(expected, rel=1e-5)
    weighted = distance_iou_loss(PRED, TARGET, torch.tensor([1.0, 3.0]), kind)
    assert weighted.item() == pytest.approx(3 * expected, rel=1e-5)


def test_giou_penalizes_the_empty_part_of_the_enclosing_box() -> None:
    wide, tall = torch.tensor([[4.0, 1, 4, 1]]), torch.tensor([[1.0, 4, 1, 4]])
    difference = distance_iou_loss(wide, tall, kind="giou") - distance_iou_loss(wide, tall, kind="linear_iou")
    assert difference.item() == pytest.approx((64 - 28) / 64, rel=1e-5)
