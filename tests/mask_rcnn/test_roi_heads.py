"""Mask R-CNN with the ranking branch against the published one, in evaluation and in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from sor_ppa.checkpoint import convert_published
from tests.deterministic import fill_state_dict
from tests.models import as_input, make_cfg, polygon_targets

DATA = Path(__file__).resolve().parents[1] / "fixtures" / "mask_rcnn"
CASE: dict[str, Any] = json.loads((DATA / "manifest.json").read_text())


def model(**extra: Any) -> Any:
    cfg = make_cfg(CASE["config"], MODEL__SOR__TRANSFORMER__DROPOUT=0.0, **extra)
    cfg.merge_from_list(CASE["options"])
    state = fill_state_dict({n: torch.zeros(shape) for n, shape in CASE["tensors"]}, CASE["weight_gain"])
    for suffix, action, value in CASE["weight_overrides"]:
        for name in [n for n in state if n.endswith(suffix)]:
            state[name] = torch.full_like(state[name], value) if action == "set" else state[name] * value
    built = build_model(cfg)
    missing = built.load_state_dict(convert_published(state, system="sor"), strict=False)
    assert not missing.unexpected_keys
    assert all("pixel" in name or "cell_anchors" in name for name in missing.missing_keys)
    return built


def test_detections_masks_and_ranks_agree() -> None:
    expected = np.load(DATA / "arrays.npz")
    ours = model().eval()
    item = as_input(CASE["image"])
    height, width = CASE["postprocess_size"]
    with torch.no_grad():
        raw = ours.inference([item], do_postprocess=False)[0]
        final = ours([item | {"height": height, "width": width}])[0]["instances"]
        # rounding of boxes differs by processor, and rank logits magnify it: rank the recorded boxes
        found = Instances(raw.image_size, pred_boxes=Boxes(torch.from_numpy(expected["boxes"])))
        found.pred_classes, found.scores = raw.pred_classes, raw.scores
        features = ours.backbone(ours.preprocess_image([item]).tensor)
        ranked = ours.roi_heads.forward_with_given_boxes(features, [found])[0]
    close = {"atol": 1e-4, "rtol": 1e-4}
    np.testing.assert_allclose(raw.pred_boxes.tensor, expected["boxes"], atol=2e-3, rtol=0)
    np.testing.assert_allclose(raw.scores, expected["scores"], **close)
    np.testing.assert_allclose(raw.pred_masks[:, 0, ::3, ::3], expected["masks"], **close)
    np.testing.assert_allclose(ranked.pred_rank_logits, expected["rank_logits"], **close)
    assert raw.pred_ranks.tolist() == expected["ranks"].tolist()
    np.testing.assert_allclose(final.pred_boxes.tensor, expected["final_boxes"], atol=4e-3, rtol=0)
    assert final.pred_ranks.tolist() == expected["final_ranks"].tolist()
    assert np.abs(final.pred_masks.sum((1, 2)).numpy() - expected["final_area"]).max() <= 3


def test_losses_and_gradients_agree() -> None:
    ours = model(MODEL__SOR__RANK_ON_LOGITS=True).train()  # as published in training
    with EventStorage():
        losses = ours([as_input(CASE["image"], instances=polygon_targets(CASE))])
    assert {name: value.item() for name, value in losses.items()} == pytest.approx(CASE["losses"], rel=1e-4)
    sum(losses.values()).backward()
    found = {name: p.grad.norm().item() for name, p in ours.named_parameters() if p.grad is not None}
    # The head's names in this detector are the published ones. The recorded float32 norms are within 1.2e-3
    # of those in float64.
    assert found == pytest.approx(CASE["gradient_norms"], rel=2e-3, abs=1e-6)
