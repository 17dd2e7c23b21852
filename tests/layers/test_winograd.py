"""Fast convolutions give the results and gradients of plain ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sor_ppa.layers import winograd
from sor_ppa.layers.winograd import FastConvolutions, winograd_conv2d


def gradients(convolution: object, *arguments: Tensor, **options: object) -> tuple[Tensor, ...]:
    """Return a convolution and the gradients of its arguments, for a fixed gradient of its output."""
    inputs = [x.detach().requires_grad_() for x in arguments]
    y = convolution(*inputs, **options)  # type: ignore[operator]
    generator = torch.Generator().manual_seed(1)
    return y.detach(), *torch.autograd.grad(y, inputs, torch.randn(y.shape, generator=generator))


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 5, 9), (3, 1, 1), (1, 14, 2), (0, 6, 6)])
def test_results_and_gradients_are_those_of_the_convolution(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(s, generator=generator) for s in ((shape[0], 5, *shape[1:]), (7, 5, 3, 3), 7)
    )
    expected = gradients(F.conv2d, x, weight, bias, padding=1)
    for found, right in zip(gradients(winograd_conv2d, x, weight, bias), expected, strict=True):
        torch.testing.assert_close(found, right, atol=2e-4, rtol=1e-4)


def test_only_large_convolutions_that_are_alike_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    monkeypatch.setattr(winograd, "_LEAST_CHANNELS", 8)
    monkeypatch.setattr(winograd, "_LEAST_PIXELS", 100)
    monkeypatch.setattr(winograd, "winograd_conv2d", lambda x, *rest: used.append(tuple(x.shape)))
    x, weight = torch.zeros(1, 8, 10, 10), torch.zeros(8, 8, 3, 3)
    with FastConvolutions():
        F.conv2d(x, weight, padding=1)
        torch.nn.Conv2d(8, 8, 3, padding=1)(x)
        assert len(used) == 2
        F.conv2d(x, weight)
        F.conv2d(x, weight, padding=1, stride=2)
        F.conv2d(x, weight, padding=2, dilation=2)
        F.conv2d(x, weight, padding="same")
        F.conv2d(x, weight[:, :1], padding=1, groups=8)
        F.conv2d(x[..., :5, :5], weight, padding=1)
        F.conv2d(x[:, :4], weight[:, :4], padding=1)
        F.conv2d(x, weight[..., :1, :1], padding=1)
        F.conv2d(x.double(), weight.double(), padding=1)
        with torch.autocast("cpu"):
            F.conv2d(x, weight, padding=1)
    F.conv2d(x, weight, padding=1)
    assert len(used) == 2
