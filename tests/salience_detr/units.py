"""Inputs and weights of the recorded case ``unit`` of the published Salience-DETR.

Each module and formula in it has inputs of its own, generated from the recipe in ``unit.json``.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sor_ppa.layers.detr.levels import Levels, Memory, build_levels
from sor_ppa.layers.detr.matching import BoxTargets, FocalCost, Predictions, box_matcher
from tests.parity import deterministic

from .reference import Checks, arrays, info

SHAPES = ((12, 15), (6, 8), (3, 4), (2, 2))
MATCHER = box_matcher(FocalCost(eps=1e-6))


def uniform(key: str, shape: list[int], low: float, high: float, *_: Any) -> Tensor:
    values = deterministic()._rng(key).random(tuple(shape)) * (high - low) + low
    return torch.from_numpy(values.astype(np.float32))


def case(name: str) -> dict[str, Any]:
    return info("unit")["cases"][name]


def made(recipe: list[Any]) -> Tensor:
    """Values of a recipe: ["N", key, shape] (standard deviation 1) or [key, shape, low, high]."""
    return uniform(*recipe[1:3], -math.sqrt(3), math.sqrt(3)) if recipe[0] == "N" else uniform(*recipe)


def given(name: str, *keys: str) -> Any:
    """The inputs of a case with these keys."""
    found = [made(case(name)[key]) for key in keys]
    return found if len(keys) > 1 else found[0]


def filled(module: nn.Module, prefix: str) -> nn.Module:
    rule, state = deterministic(), module.state_dict()
    module.load_state_dict({name: rule.fill_tensor(prefix + name, value) for name, value in state.items()})
    return module.eval()


def unit(floor: float = 1e-6) -> Checks:
    return Checks(arrays("unit"), {}, floor)


def attention_padding() -> Tensor:
    padding = torch.zeros(2, 244, dtype=torch.bool)
    padding[1, 5:40] = True
    return padding


def partly_padded() -> Levels:
    """Image 0 unpadded, image 1 padded at the last third of the columns of every level."""
    return build_levels([(96, 120), (96, 80)], (96, 120), SHAPES, torch.device("cpu"))


def layer_inputs(name: str) -> tuple[Tensor, Tensor, Memory, Tensor]:
    query, positions, value, reference = given(name, "query", "query_pos", "value", "reference_points")
    return query, positions, Memory(value, replace(partly_padded(), padding=attention_padding())), reference


def objects() -> tuple[Tensor, Tensor]:
    return given("matcher", "gt_boxes"), torch.tensor(case("matcher")["gt_labels"])


def two_images() -> tuple[Predictions, BoxTargets]:
    logits, boxes = given("matcher", "pred_logits", "pred_boxes")
    gt_boxes, gt_labels = objects()
    targets = BoxTargets.pad([gt_boxes, gt_boxes[:2].flip(0)], [gt_labels, gt_labels[2:4]])
    pairs = torch.stack([logits, logits.flip(0)]), torch.stack([boxes, boxes.roll(7, 0)])
    return Predictions(pairs[0][None], pairs[1][None]), targets
