"""Weights by rule and comparisons for the InSPyReNet fixtures."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sor_ppa.inspyrenet.network import InSPyReNetNetwork, build_encoder
from tests.parity import deterministic, parity_dir

NAME = "inspyrenet"
MEAN = torch.tensor([0.485, 0.456, 0.406])
STD = torch.tensor([0.229, 0.224, 0.225])


@lru_cache(maxsize=1)
def manifest() -> dict[str, Any]:
    """The description of every case."""
    return json.loads((parity_dir(NAME) / "manifest.json").read_text())["cases"]


def arrays(case: str) -> Any:
    """The recorded arrays of a case."""
    return np.load(parity_dir(NAME) / f"{case}.npz")


def published_shapes(model: str) -> dict[str, list[int]]:
    """Name and shape of every published parameter and buffer."""
    return json.loads((parity_dir(NAME) / f"{model}_state_dict.json").read_text())


def fill(module: nn.Module, rules: list[dict[str, Any]], gain: float = 1.0) -> nn.Module:
    """Fill a module by rule from its parameter names, then adjust; returns the module."""
    state = deterministic().fill_state_dict(module.state_dict(), gain)
    for rule in rules:
        for name, value in state.items():
            if value.is_floating_point() and re.search(rule["pattern"], name):
                state[name] = value * rule.get("mul", 1) + rule.get("add", 0)
    module.load_state_dict(state)
    return module


def filled_network(case: str, backbone: str = "res2net50", **kwargs: Any) -> InSPyReNetNetwork:
    """The network of a case, weights filled, in evaluation mode."""
    entry = manifest()[case]
    network = InSPyReNetNetwork(build_encoder(backbone), **kwargs)
    return fill(network, entry["adjust"], entry["gain"]).eval()  # type: ignore[return-value]


def normalized(image: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) RGB -> float32 (1, 3, H, W)."""
    tensor = (torch.from_numpy(image).float() / 255 - MEAN) / STD
    return tensor.permute(2, 0, 1)[None].contiguous()


def case_image(case: str) -> np.ndarray:
    """The uint8 image of a case."""
    spec = manifest()[case]["image"]
    return deterministic().image(spec["key"], spec["height"], spec["width"])


def assert_close(found: Tensor, data: Any, name: str, relative: float) -> None:
    """Compare a tensor with a recorded array (full or sampled), its shape and its statistics.

    ``relative`` is the tolerance as a fraction of the largest recorded magnitude.
    """
    expected = data[name]
    if f"{name}/shape" in data.files:
        assert tuple(found.shape) == tuple(data[f"{name}/shape"]), name
    values = found.detach().double().flatten().numpy()
    if values.size != expected.size:
        values = deterministic().sample(found, expected.size)
    scale = max(np.abs(expected).max(), 1e-12)
    error = np.abs(values - expected.reshape(-1)).max() / scale
    assert error < relative, f"{name}: relative error {error:.2e}, allowed {relative:.0e}"
    if f"{name}/stats" in data.files:
        full = found.detach().double()
        stats = np.array([full.mean(), full.std(correction=0), full.min(), full.max()])
        recorded = data[f"{name}/stats"]
        assert np.abs(stats - recorded).max() < 10 * relative * scale, f"{name}: {stats} {recorded}"


def unit(name: str) -> Tensor:
    """A recorded tensor of the single modules and functions."""
    return torch.from_numpy(arrays("units")[name])


def check_unit(found: Tensor, name: str) -> None:
    expected = unit(name)
    assert found.shape == expected.shape, name
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max(), name
