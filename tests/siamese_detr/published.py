"""The recorded cases of the published Siamese DETR, and models with their weights.

``tests/fixtures/siamese_detr`` holds what the published code computed on generated images with generated
weights (``tests/deterministic.py``): activations, losses, matches, gradient norms and running statistics.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from sor_ppa.checkpoint.siamese_detr import convert
from tests.detr import arrays, manifest, resnet_config
from tests.parity import deterministic


def make_cfg(meta: str, **keys: Any) -> CfgNode:
    """A CPU config of ``MODEL.SIAMESE_DETR`` without dropout."""
    cfg = resnet_config(meta, freeze_at=5 if meta == "SiameseDETR" else 2)
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    cfg.MODEL.SIAMESE_DETR.DROPOUT = 0.0
    for key, value in keys.items():
        cfg.MODEL.SIAMESE_DETR[key] = value
    return cfg


class Case:
    """One recorded case: manifest, arrays, published weights by rule."""

    def __init__(self, name: str) -> None:
        self.manifest, self.arrays = manifest("siamese_detr", name), arrays("siamese_detr", name)

    def weights(self) -> dict[str, torch.Tensor]:
        names = self.manifest["weights"]["names_file"].removesuffix(".json")
        return self.filled(manifest("siamese_detr", names))

    def filled(self, shapes: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Weights by rule under published names with shapes and types."""
        return {n: self.fill(n, torch.zeros(s, dtype=getattr(torch, d))) for n, (s, d) in shapes.items()}

    def fill(self, name: str, like: torch.Tensor) -> torch.Tensor:
        gains = self.manifest["weights"]["gains"]
        gain = next((g for pattern, g in gains if re.search(pattern, name)), 1.0)
        return deterministic().fill_tensor(name, like, gain)

    def check(self, key: str, value: torch.Tensor, atol: float = 1e-4) -> None:
        """Compare a tensor, in the published layout, with the recorded array ``key``."""
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


fixture = cache(Case)


def load_published(cfg: CfgNode, case: Case) -> torch.nn.Module:
    model = build_model(cfg)
    model.load_state_dict(convert(case.weights()), strict=True)
    return model
