"""The whole PPA model against the published one: features, detections, masks, ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.models import as_input, ppa_cases, ppa_model
from tests.parity import deterministic, parity_dir


def _record(module: nn.Module, into: dict, name: str) -> None:
    module.register_forward_hook(lambda _m, _args, output: into.__setitem__(name, output))


def _close(actual: torch.Tensor, expected: np.ndarray, atol: float = 1e-4, rtol: float = 1e-4) -> None:
    np.testing.assert_allclose(actual.detach().numpy(), expected, atol=atol, rtol=rtol)


@pytest.mark.parametrize("name", ["ppa_eval_plain", "ppa_eval_rich", "ppa_eval_rich_470x630"])
def test_evaluation_agrees(name: str) -> None:
    case = ppa_cases()[name]
    expected = np.load(parity_dir("ppa") / case["file"])
    sample = deterministic().sample
    model = ppa_model(case)
    seen: dict = {}
    _record(model.backbone, seen, "features")
    _record(model.proposal_generator.fcos_head, seen, "fcos")
    _record(model.roi_heads.mask_pooler, seen, "pooled")
    _record(model.roi_heads.maskiou_head, seen, "maskiou")
    item = as_input(case["image"])
    with torch.no_grad():
        raw = model.inference([item], do_postprocess=False)[0]

    for level in ("p3", "p4", "p5", "p6", "p7"):
        feature = seen["features"][level]
        assert list(feature.shape) == expected[f"feat_{level}_shape"].tolist()
        _close(torch.from_numpy(sample(feature, 256)), expected[f"feat_{level}_sample"])
    for k in range(5):
        for part, kind in zip(seen["fcos"], ("logits", "reg", "ctr"), strict=True):
            _close(torch.from_numpy(sample(part[k], 256)), expected[f"fcos_{kind}_l{k}_sample"])

    assert len(raw) == case["n_raw_instances"]
    _close(raw.pred_boxes.tensor, expected["raw_boxes"], atol=2e-3, rtol=0)
    _close(raw.scores, expected["raw_scores"])
    _close(raw.mask_scores, expected["raw_mask_scores"])
    _close(raw.locations, expected["raw_locations"], atol=0)
    _close(raw.pred_masks, expected["raw_pred_masks"])
    _close(raw.pred_rank_logits, expected["sor_logits"])
    _close(seen["maskiou"], expected["maskiou_raw"])
    features, positions = seen["pooled"]
    _close(torch.from_numpy(sample(features, 2048)), expected["mask_features_sample"])
    _close(features.mean((1, 2, 3)), expected["mask_features_mean"])
    _close(positions, expected["pos_features"])
    assert raw.pred_classes.tolist() == expected["raw_pred_classes"].tolist()
    assert raw.pred_ranks.tolist() == expected["raw_pred_ranks"].astype(int).tolist()

    height, width = case["postprocess_size"]
    with torch.no_grad():
        final = model([item | {"height": height, "width": width}])[0]["instances"]
    assert len(final) == case["n_final_instances"]
    _close(final.pred_boxes.tensor, expected["final_boxes"], atol=2e-3, rtol=0)
    _close(final.scores, expected["final_scores"])
    _close(final.mask_scores, expected["final_mask_scores"])
    assert final.pred_ranks.tolist() == expected["final_pred_ranks"].astype(int).tolist()
    area = final.pred_masks.sum((1, 2)).numpy()
    assert np.abs(area - expected["final_mask_area"]).max() <= 3
    agree = np.stack([sample(m, 256) for m in final.pred_masks]) == expected["final_mask_sample"]
    assert agree.mean() > 0.999


def test_image_without_detections_has_every_field() -> None:
    case = ppa_cases()["ppa_eval_empty"]
    with torch.no_grad():
        result = ppa_model(case)([as_input(case["image"])])[0]["instances"]
    assert len(result) == 0
    assert result.pred_masks.shape == (0, 480, 640)
    assert result.pred_ranks.dtype == torch.int64
    for field in ("pred_boxes", "scores", "pred_classes", "mask_scores", "pred_rank_scores"):
        assert len(result.get(field)) == 0
