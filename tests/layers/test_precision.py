"""What must not be rounded under mixed precision is not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from sor_ppa.layers import PyramidROIPooler
from sor_ppa.layers.precision import at_least_float32, full_precision
from tests.centermask.test_batches import images
from tests.models import make_cfg

HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("dtype", HALVES)
def test_a_layer_in_full_precision_ignores_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 8), torch.randn(5, 64).to(dtype)
    with torch.autocast("cpu", dtype=dtype):
        assert layer(x).dtype == dtype
        found = full_precision(layer, x)
    assert torch.equal(found, layer(x.float()))
    assert full_precision(layer.to(dtype), x).dtype == dtype  # a model in half precision stays so
    assert at_least_float32(x).dtype == dtype


@pytest.mark.parametrize("dtype", HALVES)
def test_boxes_are_not_rounded_before_pooling(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pooler = PyramidROIPooler(7, (8, 16), 2, "ROIAlignV2", "ratio")
    levels = [torch.randn(1, 4, 100, 130).to(dtype), torch.randn(1, 4, 50, 65).to(dtype)]
    boxes = [torch.tensor([[511.37, 300.61, 803.13, 655.21], [900.05, 17.77, 933.33, 61.11]])]
    with torch.autocast("cpu", dtype=dtype):
        found = pooler([levels], boxes, [(800, 1040)])[0]
    exact = pooler([[x.float() for x in levels]], boxes, [(800, 1040)])[0]
    assert torch.equal(found, exact)


@torch.no_grad()
def test_mask_rcnn_scores_and_pools_in_single_precision() -> None:
    torch.manual_seed(0)
    options = {"MODEL__RPN__POST_NMS_TOPK_TEST": 20, "MODEL__ROI_HEADS__SCORE_THRESH_TEST": 0.0}
    model: Any = build_model(make_cfg("configs/sor/exp/maskrcnn.yaml", **options)).eval()
    heads, seen = model.roi_heads, []
    for module in (heads.box_pooler, heads.mask_pooler, heads.box_predictor.cls_score, heads.sor_head.sor):
        module.register_forward_hook(lambda *x: seen.append(x[2].dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(images([(64, 96)]))
    assert len(seen) >= 4
    assert set(seen) == {torch.float32}
