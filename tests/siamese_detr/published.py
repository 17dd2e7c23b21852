"""The published Siamese DETR fixtures, and models filled by their rule."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from sor_ppa.checkpoint.siamese_detr import convert
from sor_ppa.config.siamese_detr import add_siamese_detr_config
from tests.parity import deterministic, parity_dir


def make_cfg(meta: str, **keys: Any) -> CfgNode:
    """A CPU config of ``MODEL.SIAMESE_DETR`` with published pixel statistics, no dropout."""
    cfg = get_cfg()
    if "SIAMESE_DETR" not in cfg.MODEL:
        add_siamese_detr_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = meta
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 5 if meta == "SiameseDETR" else 2
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    cfg.MODEL.SIAMESE_DETR.DROPOUT = 0.0
    for key, value in keys.items():
        cfg.MODEL.SIAMESE_DETR[key] = value
    return cfg


class Fixture:
    """One recorded case: manifest, arrays, filled published weights."""

    def __init__(self, name: str) -> None:
        folder = parity_dir("siamese_detr")
        self.manifest = json.loads((folder / f"{name}.json").read_text())
        with np.load(folder / f"{name}.npz") as data:
            self.arrays = dict(data)
        self.folder = folder

    def weights(self, names_file: str | None = None) -> dict[str, torch.Tensor]:
        names = names_file or self.manifest["weights"]["names_file"]
        shapes = json.loads((self.folder / names).read_text())
        return {n: self.fill(n, torch.zeros(s, dtype=getattr(torch, d))) for n, (s, d) in shapes.items()}

    def fill(self, name: str, like: torch.Tensor) -> torch.Tensor:
        gains = self.manifest["weights"]["gains"]
        gain = next((g for pattern, g in gains if re.search(pattern, name)), 1.0)
        return deterministic().fill_tensor(name, like, gain)

    def check(self, key: str, value: torch.Tensor, atol: float = 1e-4) -> None:
        """Compare a tensor, in the reference's layout, with the recorded array ``key``."""
        spec = self.manifest["arrays"][key]
        assert list(value.shape) == spec["shape"], key
        if spec["kind"] == "full":
            found = value.detach().numpy()
        else:
            found = deterministic().sample(value, spec["count"])
        np.testing.assert_allclose(found, self.arrays[key], rtol=1e-4, atol=atol, err_msg=key)


def image(key: str, height: int, width: int) -> torch.Tensor:
    """(3, H, W) uint8 image of the recipe."""
    return torch.from_numpy(deterministic().image(key, height, width)).permute(2, 0, 1)


@cache
def fixture(name: str) -> Fixture:
    return Fixture(name)


def load_published(cfg: CfgNode, case: Fixture) -> torch.nn.Module:
    model = build_model(cfg)
    model.load_state_dict(convert(case.weights()), strict=True)
    return model
