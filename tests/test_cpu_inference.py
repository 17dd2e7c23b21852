"""A tuned model computes what the untuned one does."""

from __future__ import annotations

import copy
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.modeling import build_model
from torch import Tensor, nn

from sor_ppa.cpu_inference import release_free_memory, tune_for_inference
from tests.models import make_cfg

NORMS = (FrozenBatchNorm2d, nn.BatchNorm2d)


def randomize_statistics(model: nn.Module) -> None:
    for name, buffer in model.named_buffers():
        if name.endswith(("running_var", "running_mean")):
            buffer.copy_(torch.rand_like(buffer) + (0.5 if name.endswith("var") else -0.5))


def tuned_pair(config: str, **options: Any) -> tuple[Any, Any]:
    """Return a model with random statistics, and a tuned copy without norms."""
    torch.manual_seed(0)
    model: Any = build_model(make_cfg(f"configs/{config}.yaml", **options)).eval()
    randomize_statistics(model)
    tuned = tune_for_inference(copy.deepcopy(model))
    assert not any(isinstance(module, NORMS) for module in tuned.modules())
    return model, tuned


def close(found: Tensor, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * max(scale, 1e-3))


@torch.no_grad()
@pytest.mark.parametrize(
    "config",
    [
        "sor/demo",
        "sor/exp/centermask-lite-mv2",
        "sor/exp/centermask-lite-v19-slim-dw",
        "sor/exp/maskrcnn-demo",
        "siamese_detr/synthetic/rank",
    ],
)
def test_features_of_detectors_stay_equal(config: str) -> None:
    model, tuned = tuned_pair(config)
    x = torch.randn(1, 3, 96, 128)
    expected, found = model.backbone(x), tuned.backbone(x)
    for name in expected:
        close(found[name], expected[name])


@torch.no_grad()
def test_salience_detr_stays_equal() -> None:
    model, tuned = tuned_pair("salience_detr/demo")
    maps = [torch.randn(1, model.neck.convs[0][0].out_channels, side, side) for side in (24, 12, 6, 3)]
    maps = maps[: len(model.neck.convs)]
    for one, other in zip(model.transformer.neck(maps), tuned.transformer.neck(maps), strict=True):
        close(other, one)
    batch = model.batch([torch.rand(3, 96, 128) * 255])
    one, other = (m.transformer(*m.feature_maps(batch)).logits[-1] for m in (model, tuned))
    close(other.sort(1).values, one.sort(1).values)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["res2net50", "swin_b"])
def test_saliency_maps_stay_equal(backbone: str) -> None:
    options = {"MODEL__INSPYRENET__BACKBONE": backbone, "MODEL__INSPYRENET__BASE_SIZE": 64}
    model, tuned = tuned_pair("inspyrenet/base", **options)
    inputs = [{"image": torch.rand(3, 64, 96) * 255}]
    found, expected = (m(inputs)[0]["saliency"] for m in (tuned, model))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 30, 24), (0, 24), (24,)])
def test_linear_layers_take_any_shape(shape: tuple[int, ...]) -> None:
    layer, x = nn.Linear(24, 10), torch.randn(*shape, 2)[..., 0]
    expected = layer(x)
    torch.testing.assert_close(tune_for_inference(nn.Sequential(layer))(x), expected)


@torch.no_grad()
def test_only_a_norm_that_follows_its_convolution_is_folded() -> None:
    class Reversed(nn.Sequential):
        def forward(self, input: Tensor) -> Tensor:
            return self[0](self[1](input))

    modules: list[nn.Module] = [
        Reversed(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)),
        nn.Sequential(Conv2d(4, 4, 3, activation=torch.relu), nn.BatchNorm2d(4)),
    ]
    for module in modules:
        randomize_statistics(module.eval())
        x = torch.randn(1, 4, 8, 8)
        expected = module(x)
        torch.testing.assert_close(tune_for_inference(module)(x), expected)


def test_freed_memory_goes_back_to_the_system():
    arrays = [bytearray(100_000 if index % 2 else 2_000) for index in range(4000)]
    arrays = arrays[::2]  # the small ones keep the heap from shrinking
    before = _resident()
    release_free_memory()
    assert before - _resident() > 100_000_000
    assert arrays


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
