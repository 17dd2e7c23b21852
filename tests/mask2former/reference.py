"""The recorded cases of the published Mask2Former: R-50, COCO instance segmentation.

``tests/fixtures/mask2former`` holds what the published code computed on generated images with generated
weights (``tests/deterministic.py``). ``float64_deviation`` is the noise floor of a comparison.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Instances
from torch import Tensor, nn

from sor_ppa.checkpoint import convert_published
from tests.detr import arrays as all_arrays
from tests.detr import manifest, resnet_config
from tests.parity import deterministic
from tests.salience_detr.reference import Checks

info = partial(manifest, "mask2former")
arrays = partial(all_arrays, "mask2former")


def base_config() -> CfgNode:
    """R-50 on the CPU, without a weight file."""
    cfg = resnet_config("Mask2Former", freeze_at=0)
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 80
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 256
    cfg.MODEL.MASK_ON = True
    return cfg


def published_state(overrides: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict of the recorded cases, under published names."""
    rule = deterministic()
    state = {}
    for name, shape, dtype, _ in info("state_r50"):
        value = rule.fill_tensor(name, torch.zeros(shape, dtype=getattr(torch, dtype)))
        state[name] = value * np.float32(overrides["scale"].get(name, 1.0))
    state["criterion.empty_weight"] = torch.tensor([1.0] * 80 + [0.1])
    return state


def reference_model(name: str) -> Any:
    """The model of a recorded case."""
    model = build_model(base_config())
    state = convert_published(published_state(info(name)["overrides"]), system="mask2former")
    model.load_state_dict(state, strict=True)
    return model.eval()


def images(name: str) -> list[Tensor]:
    """uint8 RGB images (3, h, w) of a case."""
    rule = deterministic()
    pictures = [rule.image(i["key"], i["height"], i["width"]) for i in info(name)["images"]]
    return [torch.from_numpy(p).permute(2, 0, 1).contiguous() for p in pictures]


def drawn(shapes: Sequence[dict[str, Any]], height: int, width: int) -> Instances:
    """Objects of the recipes ``rect``, ``ellipse`` and ``ring``."""
    y, x = np.mgrid[:height, :width] + 0.5
    masks = np.zeros((len(shapes), height, width), bool)
    for mask, s in zip(masks, shapes, strict=True):
        if s["shape"] == "rect":
            mask[:] = (s["x0"] <= x) & (x < s["x1"]) & (s["y0"] <= y) & (y < s["y1"])
        else:
            value = ((x - s["cx"]) / s["rx"]) ** 2 + ((y - s["cy"]) / s["ry"]) ** 2
            mask[:] = (value <= 1) & (value >= s.get("inner", -1))
    labels = torch.tensor([s["label"] for s in shapes], dtype=torch.int64)
    return Instances((height, width), gt_masks=BitMasks(torch.from_numpy(masks)), gt_classes=labels)


@contextmanager
def recorded_draws(draws: Sequence[Any]) -> Iterator[None]:
    """Let ``torch.rand`` return the recorded draws, in the published order."""
    left = list(draws)

    def rand(*shape: int, device: Any = None) -> Tensor:
        key, expected = left.pop(0)
        assert list(shape) == expected, f"{key}: {shape} drawn, expected {expected}"
        return torch.from_numpy(deterministic()._rng(key).random(shape).astype(np.float32))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.rand", rand)
        yield
    assert not left


def checks(name: str) -> Checks:
    """Comparisons with the arrays of a case."""
    return Checks(arrays(name), info(name)["float64_deviation"])


def uniform(key: str, shape: Sequence[int], low: float, high: float) -> Tensor:
    values = deterministic()._rng(key).random(tuple(shape)) * (high - low) + low
    return torch.from_numpy(values.astype(np.float32))


def normal(key: str, *shape: int, times: float = 1.0) -> Tensor:
    """An input of a unit case, of standard deviation ``times``."""
    return uniform(f"unit/shared/{key}", shape, -math.sqrt(3), math.sqrt(3)) * times


def filled(module: nn.Module, prefix: str) -> Any:
    """The module with its published parameters of a unit case."""
    rule = deterministic()
    case = next(c for c in info("unit")["cases"].values() if c.get("prefix") == f"unit/shared/{prefix}.")
    published = {
        name: rule.fill_tensor(f"unit/shared/{prefix}.{name}", torch.zeros(shape))
        for name, shape in case["names"]
    }
    scope = {"pd": "pixel_decoder", "pr": "predictor"}.get(prefix)
    if scope:
        published = {f"sem_seg_head.{scope}.{name}": value for name, value in published.items()}
        published = convert_published(published, system="mask2former")
        published = {name.partition(".")[2]: value for name, value in published.items()}
    module.load_state_dict(published, strict=True)
    return module.eval()
