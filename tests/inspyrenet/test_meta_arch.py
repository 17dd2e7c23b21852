"""The meta-architecture: sizes, batches, training, configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from sor_ppa.config import load_config
from sor_ppa.inspyrenet import InSPyReNet
from sor_ppa.solver import build_lr_scheduler, build_optimizer

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "inspyrenet"


def config(name: str = "inspyrenet_res2net50", *options: Any) -> CfgNode:
    return load_config(CONFIGS / f"{name}.yaml", ["MODEL.DEVICE", "cpu", *options])


@pytest.fixture(scope="module")
def model() -> InSPyReNet:
    """A small blending model with random weights."""
    torch.manual_seed(0)
    options = ("MODEL.INSPYRENET.BASE_SIZE", 64, "MODEL.INSPYRENET.RESIZE", "dynamic")
    limits = ("MODEL.INSPYRENET.THRESHOLD", 80, "MODEL.INSPYRENET.MAX_SHORT_SIDE", 128)
    return build_model(config("inspyrenet_res2net50", *options, *limits)).eval()


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 6, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 255).byte()


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), [("res2net50", 28_104_339), ("swin_b", 90_721_443)])
def test_the_published_models_have_the_published_parameter_count(name: str, parameters: int) -> None:
    model = build_model(config(f"inspyrenet_{name}"))
    assert sum(value.numel() for value in model.parameters()) == parameters


@pytest.mark.parametrize("size", [(64, 64), (97, 141), (301, 223), (20, 500), (9, 13)])
def test_the_map_has_the_wanted_size(model: InSPyReNet, size: tuple[int, int]) -> None:
    image = picture(*size)
    result, other = model([{"image": image}, {"image": image, "height": 50, "width": 75}])
    saliency = result["saliency"]
    assert other["saliency"].shape == (50, 75)
    assert saliency.shape == size
    assert saliency.dtype == torch.float32
    assert 0 <= saliency.min() <= saliency.max() <= 1


def test_maps_do_not_depend_on_the_batch(model: InSPyReNet) -> None:
    batch = [{"image": picture(96, 128, seed)} for seed in range(2)] + [{"image": picture(60, 70, 2)}]
    assert model([]) == []
    together = [result["saliency"] for result in model(batch)]
    for item, expected in zip(batch, together, strict=True):
        torch.testing.assert_close(model([item])[0]["saliency"], expected, rtol=0, atol=2e-5)


def test_small_images_take_the_low_resolution_pass_alone(model: InSPyReNet) -> None:
    image = picture(70, 90)
    low = model._passes({"image": image})
    assert low[1] is None
    assert low[0].shape == (3, 64, 64)
    high = model._passes({"image": picture(120, 160)})
    assert high[0].shape == (3, 128, 160)
    assert high[1] is not None


def test_plain_probabilities_are_not_stretched() -> None:
    options = ("MODEL.INSPYRENET.BASE_SIZE", 64, "MODEL.INSPYRENET.NORMALIZE", False)
    torch.manual_seed(0)
    plain = build_model(config("inspyrenet_res2net50", *options)).eval()
    saliency = plain([{"image": picture(64, 64)}])[0]["saliency"]
    plain.normalize = True
    stretched = plain([{"image": picture(64, 64)}])[0]["saliency"]
    expected = (saliency - saliency.min()) / (saliency.max() - saliency.min() + 1e-8)
    torch.testing.assert_close(stretched, expected, rtol=0, atol=1e-4)


def test_training_lowers_the_loss_and_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    cfg = config("inspyrenet_res2net50", "MODEL.INSPYRENET.BASE_SIZE", 64, "SOLVER.BASE_LR", 1e-4)
    model = build_model(cfg).train()
    mask = torch.zeros(1, 64, 64)
    mask[:, 16:48, 20:44] = 1
    batch = [{"image": picture(64, 64, seed), "saliency": mask} for seed in range(2)]
    optimizer = build_optimizer(cfg, model)
    totals = []
    for _ in range(6):
        losses = model(batch)
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert len(losses) == 11
    assert totals[-1] < totals[0]
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_decoder_learns_ten_times_as_fast_as_the_encoder(model: InSPyReNet) -> None:
    cfg = config()
    optimizer = build_optimizer(cfg, model)
    encoder, rest = optimizer.param_groups
    assert (encoder["lr"], rest["lr"]) == (1e-5, pytest.approx(1e-4))
    assert len(encoder["params"]) == len(list(model.network.backbone.parameters()))
    schedule = build_lr_scheduler(cfg, optimizer)
    assert schedule.get_last_lr() == pytest.approx([1e-6, 1e-5])
