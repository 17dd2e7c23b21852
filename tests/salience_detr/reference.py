"""The recorded cases of the published Salience-DETR: R-50, 4 scales.

``tests/fixtures/salience_detr`` holds what the published code computed on generated images with generated
weights (``tests/deterministic.py``): activations, losses, matches and gradients. ``float64_deviation`` is the
difference between its float32 and float64 results, the noise floor of a comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from sor_ppa.checkpoint import convert_published
from sor_ppa.salience_detr.proposals import select_queries
from tests.detr import arrays as all_arrays
from tests.detr import manifest, resnet_config
from tests.parity import deterministic

#: names, shapes, dtypes and kinds of the published parameters and buffers
STATE = "state_salience_detr_resnet50_800_1333"

info = partial(manifest, "salience_detr")
arrays = partial(all_arrays, "salience_detr")


def base_config() -> CfgNode:
    """R-50, 4 scales, on the CPU, without a weight file."""
    cfg = resnet_config("SalienceDETR")
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    return cfg


def published_state() -> dict[str, Tensor]:
    """The state dict of the recorded cases, under published names."""
    rule = deterministic()
    overrides = info("eval_single")["overrides"]
    state = {}
    for name, shape, dtype, _ in info(STATE):
        like = torch.zeros(shape, dtype=getattr(torch, dtype))
        state[name] = rule.fill_tensor(overrides["fill_as"].get(name, name), like)
    for name in overrides["keep"]:
        del state[name]
    for name, source in overrides["alias"].items():
        state[name] = state[source]
    return state | {name: torch.tensor(value) for name, value in overrides["values"].items()}


def reference_model() -> torch.nn.Module:
    model = build_model(base_config())
    model.load_state_dict(convert_published(published_state(), system="salience_detr"), strict=True)
    return model


def images(name: str) -> list[Tensor]:
    """uint8 RGB images (3, h, w) of a case."""
    rule = deterministic()
    pictures = [rule.image(i["key"], i["height"], i["width"]) for i in info(name)["images"]]
    return [torch.from_numpy(p).permute(2, 0, 1).contiguous() for p in pictures]


@contextmanager
def recorded_order(expected: np.ndarray) -> Iterator[list[Tensor]]:
    """Check the query selection against a case, then continue in the recorded order.

    Two proposals whose scores differ by less than rounding (1.5e-6 on scores near 2.6) may change places.
    Learned query i belongs to proposal i, so a swap is allowed and undone.

    Yields:
        the indices of our selection.
    """
    ours: list[Tensor] = []

    def select(scores: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        found = select_queries(scores, *args, **kwargs)
        theirs = torch.from_numpy(expected).long()
        gap = (scores.gather(1, found) - scores.gather(1, theirs)).abs()
        assert bool((gap < 1e-5).all()), f"proposal scores off by {gap.max():.3g}"
        assert torch.equal(found.sort(1).values, theirs.sort(1).values)
        ours.append(found)
        return theirs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sor_ppa.salience_detr.transformer.select_queries", select)
        yield ours


class Checks:
    """Comparisons of one recorded case.

    Args:
        expected: the recorded arrays.
        floor: noise floor by name.
        default: noise floor of other names.
    """

    def __init__(
        self, expected: dict[str, np.ndarray], floor: dict[str, float], default: float = 0.0
    ) -> None:
        self.expected, self.floor, self.default = expected, floor, default

    def close(self, key: str, found: Any) -> None:
        """Within ten times the noise floor, at least 1e-5, or within 1e-4 of each value."""
        expected = self.expected[key]
        found = np.asarray(found.detach().numpy() if isinstance(found, Tensor) else found, dtype=np.float64)
        assert found.shape == expected.shape, f"{key}: {found.shape} found, expected {expected.shape}"
        limit = max(10 * self.floor.get(key, self.default), 1e-5)
        limit = np.maximum(limit, 1e-4 * np.abs(expected))
        worst = np.abs(found - expected)
        assert (worst <= limit).all(), f"{key}: off by {worst.max():.3g}, allowed {limit.max():.3g}"

    def sample(self, key: str, found: Tensor) -> None:
        """Compare evenly spaced values of a large tensor."""
        self.close(key, deterministic().sample(found, len(self.expected[key])))

    def equal(self, key: str, found: Any) -> None:
        np.testing.assert_array_equal(np.asarray(found), self.expected[key], err_msg=key)
