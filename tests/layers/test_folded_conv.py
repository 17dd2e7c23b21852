"""A convolution and its frozen normalisation as one kernel."""

from __future__ import annotations

import copy
import pickle

import torch
from torch import Tensor
from torch.nn import functional as F

from sor_ppa.backbone.vovnet import ConvNormReLU


def layer(norm: str = "FrozenBN", **options: int) -> ConvNormReLU:
    torch.manual_seed(0)
    made = ConvNormReLU(5, 7, norm, **options).eval()
    for name, value in made.norm.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand(7) + (0.5 if "var" in name else 0.0))
    return made


def plain(made: ConvNormReLU, x: Tensor) -> Tensor:
    return F.relu(made.norm(made.conv(x)))


@torch.no_grad()
def test_equals_its_parts() -> None:
    x = torch.randn(2, 5, 9, 11)
    for made in (layer(), layer(stride=2), layer(kernel=1), layer("BN")):
        torch.testing.assert_close(made(x), plain(made, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_follows_weights_that_change() -> None:
    made, x = layer(), torch.randn(1, 5, 8, 8)
    made(x)
    made.conv.weight.mul_(2)
    torch.testing.assert_close(made(x), plain(made, x), atol=1e-5, rtol=1e-5)
    made.load_state_dict({name: value + 0.25 for name, value in made.state_dict().items()})
    torch.testing.assert_close(made(x), plain(made, x), atol=1e-5, rtol=1e-5)
    for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        other.norm.bias.add_(1)
        torch.testing.assert_close(other(x), plain(other, x), atol=1e-5, rtol=1e-5)


def test_gradients_go_the_plain_way() -> None:
    made, x = layer(), torch.randn(1, 5, 8, 8)
    made(x).sum().backward()
    assert made.conv.weight.grad is not None
    assert set(made.state_dict()) == {"conv.weight"} | {f"norm.{n}" for n in made.norm.state_dict()}
