"""Convolution blocks and axis attention of InSPyReNet, with the published parameter names."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

__all__ = [
    "AxisAttention",
    "ConvBlock",
    "channels_last",
    "fold_batch_norm",
    "linear",
    "pointwise_conv",
    "resize",
]


def resize(x: Tensor, size: tuple[int, int], align_corners: bool = False) -> Tensor:
    """Bilinear resize without antialiasing; the tensor itself where the size already fits.

    Args:
        x: (B, C, h, w).
        size: target (H, W) in pixels.
        align_corners: as in :func:`torch.nn.functional.interpolate`.
    """
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=size, mode="bilinear", align_corners=align_corners)


def pointwise_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution, (B, C, H, W) -> (B, O, H, W).

    A dilation has no meaning for a 1x1 kernel, but it decides who computes it: on CPU torch hands a plain
    1x1 convolution of one image to the BLAS library and a dilated one to oneDNN, which is about twice as
    fast on processors where the BLAS does not use their full vector width.
    """
    return F.conv2d(x, weight, bias, dilation=2 if x.device.type == "cpu" else 1)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``F.linear`` for (..., C) inputs; on CPU by :func:`pointwise_conv`, see there.

    Args:
        x: (..., C).
        weight: (O, C).
        bias: (O,) or None.

    Returns:
        (..., O).
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    rows = x.reshape(1, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)
    out = pointwise_conv(rows, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], weight.shape[0])


class ConvBlock(nn.Module):
    """Convolution without bias that keeps the size, BatchNorm, ReLU.

    Args:
        in_channels: channels in.
        out_channels: channels out.
        kernel_size: odd side, or (height, width).
        dilation: of the kernel.
        norm: follow with BatchNorm.
        relu: follow with ReLU.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        dilation: int = 1,
        norm: bool = True,
        relu: bool = False,
    ) -> None:
        super().__init__()
        kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        padding = (dilation * (kernel[0] - 1) // 2, dilation * (kernel[1] - 1) // 2)
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=False
        )
        nn.init.kaiming_normal_(self.conv.weight)
        self.bn: nn.BatchNorm2d | None = nn.BatchNorm2d(out_channels) if norm else None
        self.relu = relu
        self.is_pointwise = kernel == (1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        weight, bias = self.conv.weight, self.conv.bias
        return self.finish(pointwise_conv(x, weight, bias) if self.is_pointwise else self.conv(x))

    def finish(self, x: Tensor) -> Tensor:
        """What follows the convolution: BatchNorm and ReLU, (B, out_channels, H, W) -> same."""
        if self.bn is not None:
            x = self.bn(x)
        return F.relu_(x) if self.relu else x


def fold_conv(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Put the running statistics of ``norm`` into the weight and bias of ``conv``, in place."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch normalisation without running statistics cannot be folded")
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight, conv.bias = weight, bias


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Fold every BatchNorm of a network in evaluation mode into its convolution, in place.

    The result computes the same function with fewer passes over memory, cannot be trained and has other
    parameter names.

    Args:
        module: a network of :class:`ConvBlock` and of modules that offer ``fold_batch_norm()``.

    Returns:
        ``module``.

    Raises:
        ValueError: the module is in training mode.
    """
    if module.training:
        raise ValueError("fold_batch_norm needs a network in evaluation mode: call .eval() first")
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, ConvBlock) and child.bn is not None:
                fold_conv(child.conv, child.bn)
                child.bn = None
            else:
                fold = getattr(child, "fold_batch_norm", None)
                if fold is not None:
                    fold()
    return module.requires_grad_(False)


def channels_last(module: nn.Module) -> nn.Module:
    """Lay out every kernel with its channels innermost, which convolutions pass on to their outputs."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


class AxisAttention(nn.Module):
    """Self-attention along one axis (PAA: "parallel axial attention", InSPyReNet section 3.1).

    The published code groups the elements of a feature map by their order in memory instead of by row or
    column, so that on a square map both axes give the same grouping. Trained weights depend on it.

    Args:
        channels: C of the feature map; queries and keys have C // 8.
        axis: "h" or "w": side length of the attention matrix is the height or the width.
    """

    def __init__(self, channels: int, axis: str) -> None:
        super().__init__()
        if axis not in ("h", "w"):
            raise ValueError(f"axis must be 'h' or 'w', found {axis!r}")
        self.axis = axis
        self.query_conv = ConvBlock(channels, channels // 8, 1)
        self.key_conv = ConvBlock(channels, channels // 8, 1)
        self.value_conv = ConvBlock(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> same: gamma * attention(x) + x."""
        batch, side = x.shape[0], x.shape[2 if self.axis == "h" else 3]
        query, key, value = (
            block(x).reshape(batch, -1, side) for block in (self.query_conv, self.key_conv, self.value_conv)
        )
        attention = torch.bmm(query.transpose(1, 2), key).softmax(-1)  # (B, side, side)
        alone = batch == 1
        out = linear(value[0], attention[0]) if alone else torch.bmm(value, attention.transpose(1, 2))
        return torch.addcmul(x, self.gamma, out.reshape(x.shape))
