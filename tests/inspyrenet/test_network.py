"""The network against numbers recorded from the published implementation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sor_ppa.cpu_inference import tune_for_inference
from sor_ppa.inspyrenet.network import InSPyReNetNetwork

from .fixtures import arrays, assert_close, case_image, filled_network, normalized


def record(network: InSPyReNetNetwork, images: Tensor) -> dict[str, Tensor]:
    """Every named intermediate tensor of one forward pass."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, *parts: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            outputs = list(output) if isinstance(output, (tuple, list)) else [output]
            for index, value in enumerate(outputs):
                key = f"{name}/{parts[index]}" if parts else name
                if value is not None:
                    seen[key] = value.clone()

        return hook

    modules = dict(network.named_children())
    handles = [modules["backbone"].register_forward_hook(keep("backbone", *"01234"))]
    handles += [modules[f"context{i}"].register_forward_hook(keep(f"context{i}")) for i in range(1, 6)]
    for name in ("decoder", "attention2", "attention1", "attention0"):
        handles.append(modules[name].register_forward_hook(keep(name, "feature", "map")))
    with torch.no_grad():
        pyramid = network(images)
    for handle in handles:
        handle.remove()
    seen |= {f"saliency/d{3 - index}": value for index, value in enumerate(pyramid.saliency)}
    seen |= {f"laplacian/p{2 - index}": value for index, value in enumerate(pyramid.laplacian)}
    return seen


@pytest.mark.parametrize("case", ["r50_384", "r50_384_purefill"])
def test_every_recorded_tensor_of_a_single_pass_agrees(case: str) -> None:
    data = arrays(case)
    seen = record(filled_network(case), normalized(case_image(case)))
    for name in data.files:
        if name.endswith(("/stats", "/shape", "/sample")) or name in ("pred", "attention0/feature"):
            continue
        assert_close(seen[name], data, name, 1e-4)


def test_tiles_and_tuning_do_not_change_the_pyramid() -> None:
    data = arrays("r50_384")
    network = filled_network("r50_384", tile=100)
    tune_for_inference(network)
    seen = record(network, normalized(case_image("r50_384")))
    for name in [name for name in data.files if name.startswith(("saliency/", "laplacian/"))]:
        if not name.endswith(("/stats", "/shape")):
            assert_close(seen[name], data, name, 1e-4)
