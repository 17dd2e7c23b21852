"""Configurations, samples and fixtures that the tests of both detection transformers share."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.structures import BitMasks, Boxes, Instances

from sor_ppa import add_sor_config
from tests.parity import parity_dir

#: Narrow heads for CenterROIHeads.
NARROW_HEADS = [
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "MODEL.ROI_MASKIOU_HEAD.CONV_DIM", 16),
    *("MODEL.SOR.CONV_DIM", 16, "MODEL.SOR.DENSE_DIM", 32, "MODEL.SOR.OBJ_DIM", 32),
    *("MODEL.SOR.TRANSFORMER.D_MODEL", 32, "MODEL.SOR.TRANSFORMER.LAYERS", 1),
]


def resnet_config(meta: str, freeze_at: int = 2) -> CfgNode:
    """A CPU config without weights, with torchvision's ResNet-50 and its pixel statistics."""
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.META_ARCHITECTURE = meta
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = freeze_at
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    return cfg


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """(3, H, W) uint8 noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def labelled(height: int, width: int, boxes: list[list[float]], seed: int = 0) -> dict[str, Any]:
    """A training sample; object i has class 0 and rank i, at most 4."""
    corners = torch.tensor(boxes).view(-1, 4)
    masks = torch.zeros(len(corners), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, corners.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    instances = Instances((height, width), gt_boxes=Boxes(corners), gt_masks=BitMasks(masks))
    instances.gt_classes = torch.zeros(len(corners), dtype=torch.int64)
    instances.gt_ranks = torch.arange(len(corners)).clamp(max=4)
    return {"image": picture(height, width, seed), "instances": instances, "height": height, "width": width}


@cache
def manifest(system: str, name: str) -> Any:
    """The JSON part of a recorded case of the published code."""
    return json.loads((parity_dir(system) / f"{name}.json").read_text())


@cache
def arrays(system: str, name: str) -> dict[str, np.ndarray]:
    """The arrays of a recorded case of the published code."""
    with np.load(parity_dir(system) / f"{name}.npz") as archive:
        return dict(archive)
