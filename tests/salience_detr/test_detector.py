"""The meta-architectures built from configurations: training steps, any size, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from sor_ppa.checkpoint.salience_detr import published_to_ours
from tests.detr import NARROW_HEADS, labelled
from tests.models import make_cfg

from .reference import STATE, info


def config(name: str) -> CfgNode:
    return make_cfg(f"configs/salience_detr/{name}")


def small(name: str) -> CfgNode:
    """The configuration with narrow layers: R-18, two layers each, 60 queries."""
    cfg = config(name)
    cfg.merge_from_list(
        [
            *("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64),
            *("MODEL.SALIENCE_DETR.DIM", 64, "MODEL.SALIENCE_DETR.FFN_DIM", 64),
            *("MODEL.SALIENCE_DETR.ENC_LAYERS", 2, "MODEL.SALIENCE_DETR.DEC_LAYERS", 2),
            *("MODEL.SALIENCE_DETR.LAYER_FILTER_RATIO", [1.0, 0.5], "MODEL.SALIENCE_DETR.NUM_QUERIES", 60),
            *("MODEL.SALIENCE_DETR.NUM_DENOISING", 6, "MODEL.SALIENCE_DETR.TEST_RESIZE", []),
            *NARROW_HEADS,
        ]
    )
    return cfg


def sample(height: int, width: int, objects: int, seed: int = 0) -> dict[str, Any]:
    """A training sample with objects at random places."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(objects, 2, generator=generator) * torch.tensor([width / 2, height / 2])
    size = (0.2 + 0.3 * torch.rand(objects, 2, generator=generator)) * torch.tensor([width, height])
    return labelled(height, width, torch.cat([corner, corner + size], 1).tolist(), seed)


@pytest.fixture(scope="module")
def detector() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_model(small("salience_detr_R_50_sid.yaml"))


@pytest.fixture(scope="module")
def published() -> torch.nn.Module:
    return build_model(config("salience_detr_R_50_4scale.yaml"))


def test_images_without_objects() -> None:
    model = build_model(small("ppa_salience_detr_R_50.yaml")).train()
    losses = model([sample(96, 128, 0), sample(96, 128, 0, seed=1)])
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize("size", [(1, 1), (17, 300), (64, 64), (200, 31)])
@torch.no_grad()
def test_any_image_size(detector: torch.nn.Module, size: tuple[int, int]) -> None:
    image = sample(*size, 0)["image"]
    instances = detector.eval()([{"image": image, "height": 50, "width": 70}])[0]["instances"]
    assert instances.image_size == (50, 70)
    assert torch.isfinite(instances.pred_boxes.tensor).all()
    assert len(instances) > 0
    assert (instances.pred_ranks == -1).all()


def test_empty_boxes_and_unknown_classes_are_refused(detector: torch.nn.Module) -> None:
    item = sample(64, 64, 2)
    item["instances"].gt_classes[1] = 7
    with pytest.raises(ValueError, match="gt_classes: expected less than 1, found 7"):
        detector.train()([item])
    item = {**sample(64, 64, 2), "file_name": "broken.jpg"}
    item["instances"].gt_boxes.tensor[1, 2] = item["instances"].gt_boxes.tensor[1, 0]
    with pytest.raises(ValueError, match=r"broken\.jpg: gt_boxes: expected x2 > x1"):
        detector.train()([item])


def test_coco_labels_are_translated_in_both_directions(published: torch.nn.Module) -> None:
    assert published.label_ids[[0, 11, 79]].tolist() == [1, 13, 90]
    assert published.label_classes[[0, 1, 12, 13, 90]].tolist() == [-1, 0, -1, 11, 79]


def test_parameter_groups_follow_the_published_rule(published: torch.nn.Module) -> None:
    """The rule of the published training script, applied to the published parameter names."""
    cfg = config("salience_detr_R_50_4scale.yaml")
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY = 1.0, 0.5
    groups = published.parameter_groups(cfg)
    found = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    names = dict(published.named_parameters())
    checked = 0
    for name, _, _, kind in info(STATE):
        if kind != "parameter" or "enhance_mcsp" in name:
            continue
        slow = "backbone" in name or "sampling_offsets" in name or "reference_points" in name
        plain = "norm" in name or "bias" in name
        expected = (0.1 if slow else 1.0, 0.0 if plain else 0.5)
        assert found[id(names[published_to_ours(name)])] == expected, name
        checked += 1
    assert checked > 500
