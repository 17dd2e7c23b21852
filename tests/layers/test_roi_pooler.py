"""Level assignment and pooling against the published pooler."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from sor_ppa.layers import PyramidROIPooler, assign_levels_by_area, assign_levels_by_ratio
from sor_ppa.ranking.position import position_maps
from tests.parity import deterministic, parity_dir


@pytest.fixture(scope="module")
def arrays() -> dict:
    return dict(np.load(parity_dir("ppa") / "pooler.npz"))


def test_levels_agree(arrays: dict) -> None:
    manifest = json.loads((parity_dir("ppa") / "manifest.json").read_text())["cases"]["pooler"]
    for i, (height, width) in enumerate(manifest["image_sizes_hw"]):
        boxes = torch.from_numpy(arrays[f"level_boxes_{i}"]).float()
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        image = torch.full_like(area, height * width)
        assert assign_levels_by_ratio(area, image, 3, 5).tolist() == arrays[f"levels_{i}"].tolist()
        assert assign_levels_by_ratio(area, image, 2, 5).tolist() == arrays[f"levels_p2p5_{i}"].tolist()
        assert assign_levels_by_area(area, 3, 5).tolist() == arrays[f"area_levels_{i}"].tolist()


def test_pooled_features_and_positions_agree(arrays: dict) -> None:
    uniform = deterministic()._uniform
    shapes = {"p3": (1, 4, 60, 80), "p4": (1, 4, 30, 40), "p5": (1, 4, 15, 20)}
    features = [uniform(f"pool/feat/{level}", shape, std=1) for level, shape in shapes.items()]
    size = torch.tensor([[480.0, 640.0]])
    maps = [position_maps(size, tuple(f.shape[-2:]), s) for f, s in zip(features, (8, 16, 32), strict=True)]
    pooler = PyramidROIPooler(14, (8, 16, 32), 0, "ROIAlignV2", "ratio")
    boxes = torch.from_numpy(arrays["pos_boxes"]).float()
    pooled, positions = pooler([features, maps], [boxes], [(480, 640)])
    np.testing.assert_allclose(pooled, arrays["feat_pooled"], atol=1e-4)
    np.testing.assert_allclose(positions, arrays["pos_pooled"], atol=1e-5)


def test_boxes_return_in_their_order_with_their_image() -> None:
    levels = [torch.full((2, 1, 64 // s, 64 // s), float(s)) for s in (8, 16, 32)]
    for level in levels:
        level[1] *= 100
    small, large = [0.0, 0.0, 9.0, 9.0], [0.0, 0.0, 64.0, 64.0]
    boxes = [torch.tensor([large, small]), torch.tensor([small, large, small])]
    pooler = PyramidROIPooler(2, (8, 16, 32), 0, "ROIAlignV2", "ratio")
    pooled = pooler([levels], boxes, [(64, 64), (64, 64)])[0].amax((1, 2, 3))
    assert pooled.tolist() == [32, 8, 800, 3200, 800]
