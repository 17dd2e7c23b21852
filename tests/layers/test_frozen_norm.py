"""A convolution and the frozen norm behind it, computed as one."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from sor_ppa.layers.frozen_norm import normalized_conv


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 2, 1), (1, 1, 1), (3, 1, 4)])
def test_output_and_gradients_are_those_of_the_two_modules(kernel: int, stride: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 8, kernel, stride, kernel // 2, groups=groups, bias=False).double()
    norm = FrozenBatchNorm2d(8).double()
    for name, buffer in norm.named_buffers():
        buffer.copy_(torch.rand(8) + (name == "running_var"))
    x = torch.randn(2, 4, 7, 9, dtype=torch.float64, requires_grad=True)
    expected, found = norm(conv(x)), normalized_conv(x, conv, norm)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    for a, b in zip(
        torch.autograd.grad((found * weight).sum(), [x, conv.weight]),
        torch.autograd.grad((expected * weight).sum(), [x, conv.weight]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_another_norm_is_called() -> None:
    conv, norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(normalized_conv(x, conv, norm), norm(conv(x)))
