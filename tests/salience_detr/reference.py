"""The published model of the parity fixtures: R-50, 4 scales, weights filled by rule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model
from torch import Tensor

from sor_ppa import add_sor_config
from sor_ppa.checkpoint import convert_published
from sor_ppa.salience_detr.proposals import select_proposals
from tests.parity import deterministic, parity_dir

DTYPES = {"float32": torch.float32, "int64": torch.int64}


def base_config() -> CfgNode:
    """R-50, 4 scales, on the CPU, without a weight file."""
    cfg = get_cfg()
    add_sor_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.META_ARCHITECTURE = "SalienceDETR"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.PIXEL_MEAN = [123.675, 116.28, 103.53]
    cfg.MODEL.PIXEL_STD = [58.395, 57.12, 57.375]
    return cfg


@cache
def info(name: str) -> Any:
    return json.loads((parity_dir("salience_detr") / f"{name}.json").read_text())


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(parity_dir("salience_detr") / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def published_state() -> dict[str, Tensor]:
    """The state dict of the recipe, under published names."""
    rule = deterministic()
    entries = info("state_salience_detr_resnet50_800_1333")
    overrides = info("eval_single")["overrides"]
    state = {}
    for name, shape, dtype, _ in entries:
        key = overrides["fill_as"].get(name, name)
        like = torch.zeros(shape, dtype=DTYPES[dtype])
        state[name] = rule.fill_tensor(key, like)
    for name in overrides["keep"]:
        del state[name]
    for name, source in overrides["alias"].items():
        state[name] = state[source]
    for name, value in overrides["values"].items():
        state[name] = torch.tensor(value)
    return state


def reference_model() -> torch.nn.Module:
    model = build_model(base_config())
    result = model.load_state_dict(convert_published(published_state(), system="salience_detr"))
    assert not result.missing_keys
    assert not result.unexpected_keys
    return model


def images(name: str) -> list[Tensor]:
    """uint8 RGB images (3, h, w) of a fixture."""
    rule = deterministic()
    pictures = [rule.image(i["key"], i["height"], i["width"]) for i in info(name)["images"]]
    return [torch.from_numpy(p).permute(2, 0, 1).contiguous() for p in pictures]


@contextmanager
def recorded_order(expected: np.ndarray) -> Iterator[list[Tensor]]:
    """Query selection that must agree with the fixture, and then goes on with the fixture's order.

    Two proposals whose scores differ by less than rounding (the fixture has gaps of 1.5e-6 on scores near
    2.6) may change places, and learnt query i is paired with proposal i; so a swap is allowed and undone.

    Yields:
        the indices that our selection gave.
    """
    ours: list[Tensor] = []

    def select(scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        found = select_proposals(scores, *args, **kwargs)
        theirs = torch.from_numpy(expected).long()
        gap = (scores.gather(1, found) - scores.gather(1, theirs)).abs()
        assert bool((gap < 1e-5).all()), f"proposal scores off by {gap.max():.3g}"
        assert torch.equal(found.sort(1).values, theirs.sort(1).values)
        ours.append(found)
        return theirs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sor_ppa.salience_detr.transformer.select_proposals", select)
        yield ours


def assert_close(found: Any, expected: np.ndarray, name: str, floor: float, scale: float = 10.0) -> None:
    """Within ``scale`` times the noise floor of the fixture, at least 1e-5, or 1e-4 of the largest value."""
    found = np.asarray(found.detach().numpy() if isinstance(found, Tensor) else found, dtype=np.float64)
    assert found.shape == expected.shape, f"{name}: {found.shape} found, expected {expected.shape}"
    limit = max(scale * floor, 1e-5)
    limit = np.maximum(limit, 1e-4 * np.abs(expected))
    worst = np.abs(found - expected)
    assert (worst <= limit).all(), f"{name}: off by {worst.max():.3g}, allowed {limit.max():.3g}"
