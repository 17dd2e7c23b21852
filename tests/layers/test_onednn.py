"""The oneDNN paths agree with plain PyTorch and stay out of the way of training."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_backbone
from torch import nn
from torch.nn import functional as F

from sor_ppa.layers.folded_resnet import FoldedResNet
from sor_ppa.layers.onednn import Linear, conv2d, linear


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("strided", [False, True])
def test_linear(relu: bool, strided: bool) -> None:
    x, weight, bias = torch.randn(2, 30, 24), torch.randn(10, 24), torch.randn(10)
    if strided:
        x, weight = x[..., :12], weight[:, :12]
    expected = F.linear(x, weight, bias)
    with torch.no_grad():
        found = linear(x, weight, bias, relu)
    torch.testing.assert_close(found, expected.relu() if relu else expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "groups"), [(1, 1, 1), (3, 2, 1), (3, 1, 4)])
def test_conv2d(kernel: int, stride: int, groups: int) -> None:
    x, weight = torch.randn(2, 8, 13, 9), torch.randn(12, 8 // groups, kernel, kernel)
    bias = torch.randn(12)
    expected = F.conv2d(x, weight, bias, stride=stride, padding=kernel // 2, groups=groups).relu()
    with torch.no_grad():
        found = conv2d(x, weight, bias, stride, kernel // 2, groups, relu=True)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_empty_input() -> None:
    with torch.no_grad():
        assert linear(torch.zeros(0, 4), torch.zeros(3, 4)).shape == (0, 3)


def test_gradients_pass() -> None:
    layer = Linear(4, 3)
    layer(torch.randn(2, 4)).sum().backward()
    assert layer.weight.grad is not None


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res5"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    torch.manual_seed(0)
    backbone = build_backbone(cfg).eval()
    for name, buffer in backbone.named_buffers():
        buffer.copy_(torch.rand_like(buffer) + 0.5 if "var" in name else buffer + 0.1)
    return backbone


def test_folded_resnet(resnet: nn.Module) -> None:
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, found = resnet(x), FoldedResNet(resnet)(resnet, x)
    assert list(found) == list(expected)
    for name in expected:
        size = expected[name].abs().max().item()
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5 * size)


def test_folded_kernels_follow_the_parameters(resnet: nn.Module) -> None:
    backbone = copy.deepcopy(resnet)
    folded = FoldedResNet(backbone)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = folded(backbone, x)["res2"]
        backbone.stem.conv1.weight.mul_(0.5)
        after = folded(backbone, x)["res2"]
        torch.testing.assert_close(after, backbone(x)["res2"], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, after)


def test_other_backbones_run_as_they_are() -> None:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res4"]
    backbone = build_backbone(cfg).eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(FoldedResNet(backbone)(backbone, x)["res4"], backbone(x)["res4"])
