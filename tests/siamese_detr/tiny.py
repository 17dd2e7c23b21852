"""Small models and samples that train in a fraction of a second."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode

from tests.detr import NARROW_HEADS, picture, resnet_config

TRANSFORMERS = ("vanilla", "conditional", "deformable")
RANKING = [
    *("MODEL.MASK_ON", True, "MODEL.MASKIOU_ON", True, "MODEL.FPN.OUT_CHANNELS", 32),
    *("MODEL.ROI_HEADS.NAME", "CenterROIHeads", "MODEL.ROI_HEADS.IN_FEATURES", ["p3", "p4", "p5"]),
    *("MODEL.ROI_HEADS.NUM_CLASSES", 1, "MODEL.SOR.NUM_CONV", 2),
    *("MODEL.ROI_MASK_HEAD.NAME", "SpatialAttentionMaskHead", "MODEL.ROI_MASK_HEAD.NUM_CONV", 1),
    *("MODEL.ROI_MASK_HEAD.ASSIGN_CRITERION", "ratio", "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", 14),
    *("MODEL.SOR.NAME", "SelfAttentionWithPosConvCat"),
    *("MODEL.SOR.TRANSFORMER.N_HEAD", 2, "MODEL.SOR.TRANSFORMER.USE_POS", True),
]


def tiny_cfg(meta: str, transformer: str = "conditional", **keys: Any) -> CfgNode:
    """A ResNet-18 with a two-layer transformer of 32 channels, on the CPU; keys of ``MODEL.SIAMESE_DETR``."""
    cfg = resnet_config(meta, freeze_at=5 if meta == "SiameseDETR" else 2)
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 16
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    small = {"TRANSFORMER": transformer, "NUM_QUERIES": 20, "HIDDEN_DIM": 32, "FFN_DIM": 32, "NUM_HEADS": 4}
    small |= {"ENCODER_LAYERS": 1, "DECODER_LAYERS": 2, "NUM_CLASSES": 1 if meta == "RankingDETR" else 3}
    if transformer == "deformable":
        small |= {"IN_FEATURES": ["res4", "res5"], "NUM_FEATURE_LEVELS": 3}
    if meta == "RankingDETR":
        cfg.merge_from_list([*NARROW_HEADS, *RANKING])
    for key, value in (small | keys).items():
        cfg.MODEL.SIAMESE_DETR[key] = value
    return cfg


def two_views(height: int = 96, width: int = 128, regions: int = 10, seed: int = 0) -> dict[str, Any]:
    """A pre-training sample."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(2, regions, 2, generator=generator) * 40
    size = 20 + torch.rand(2, regions, 2, generator=generator) * 30
    crops = torch.randint(0, 256, (2, regions, 3, 32, 32), generator=generator, dtype=torch.uint8)
    views = torch.stack([picture(height, width, seed), picture(height, width, seed + 100)])
    return {"views": views, "boxes": torch.cat((low, low + size), dim=-1), "crops": crops}
