"""3 x 3 convolutions with a quarter of the multiplications, for trainings on a CPU.

Winograd's algorithm F(4x4, 3x3) computes 4 x 4 outputs of a convolution from a tile of 6 x 6 inputs with 36
multiplications a channel pair instead of 144 (Lavin and Gray, Fast Algorithms for Convolutional Neural
Networks, CVPR 2016, section 4.3). oneDNN has no such kernel for training, so matrix products do it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

__all__ = ["INPUT", "KERNEL", "OUTPUT", "STEP", "TILE", "FastConvolutions", "winograd_conv2d"]

TILE, STEP = 6, 4
# B^T, G and A^T of the paper
INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
_INPUT, _KERNEL, _OUTPUT = (
    torch.from_numpy(np.kron(matrix, matrix)).float() for matrix in (INPUT, KERNEL, OUTPUT)
)
# below, the transforms cost more than the multiplications that they save
_LEAST_CHANNELS, _LEAST_PIXELS = 160, 2000


class FastConvolutions(TorchFunctionMode):
    """Within this context, large 3 x 3 convolutions in float32 on a CPU use :func:`winograd_conv2d`.

    Results and gradients change by rounding, about 1e-5 of the largest value.
    """

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and _pays(*args, **(kwargs or {})):
            return winograd_conv2d(*args[:3])
        return func(*args, **(kwargs or {}))


def _pays(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Return whether the algorithm makes a call of ``conv2d`` faster and computes what it computes."""
    return (
        weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= _LEAST_CHANNELS
        and x.ndim == 4
        and x.numel() >= _LEAST_PIXELS * x.shape[1]
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and groups == 1
        and all(value in (1, (1, 1), [1, 1]) for value in (stride, padding, dilation))
    )


def winograd_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``conv2d(x, weight, bias, padding=1)``.

    Args:
        x: (N, C, H, W).
        weight: (D, C, 3, 3).
        bias: (D,).
    """
    number, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
    rows = _Convolution.apply(rows, weight, bias, (number, height, width))
    return rows.view(number, height, width, len(weight)).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """Convolution of pixels (N * H * W, C) of images of sizes (N, H, W): (N * H * W, D)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sizes: tuple[int, int, int]
    ) -> Tensor:
        tiles = _tiles(x, sizes)
        ctx.save_for_backward(tiles, weight)
        ctx.sizes = sizes
        y = _convolved(tiles, weight, sizes)
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tiles, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = None, None, None
        if ctx.needs_input_grad[0]:
            of_x = _convolved(_tiles(grad, ctx.sizes), weight.flip(2, 3).transpose(0, 1), ctx.sizes)
        if ctx.needs_input_grad[1]:
            outputs, inputs = weight.shape[:2]
            pixels = _pixels_of_tiles(*ctx.sizes).view(TILE, TILE, -1)[1:-1, 1:-1]  # the outputs of the tiles
            spread = (_OUTPUT.T @ _taken(grad, pixels).view(STEP**2, -1)).view(TILE**2, -1, outputs)
            kernel = torch.bmm(tiles.transpose(1, 2), spread)
            of_weight = (_KERNEL.T @ kernel.view(TILE**2, -1)).view(3, 3, inputs, outputs).permute(3, 2, 0, 1)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum(dim=0)
        return of_x, of_weight, of_bias, None


def _taken(rows: Tensor, numbers: Tensor) -> Tensor:
    """Return chosen rows of (M, C), zeros for number M."""
    return F.pad(rows, (0, 0, 0, 1)).index_select(0, numbers.flatten())


def _tiles(x: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    """Return the transformed tiles of pixels (N * H * W, C): (36, P, C)."""
    taken = _taken(x, _pixels_of_tiles(*sizes))
    return (_INPUT @ taken.view(TILE**2, -1)).view(TILE**2, -1, x.shape[1])


def _convolved(tiles: Tensor, weight: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    """Return the convolution of transformed tiles (36, P, C): (N * H * W, D)."""
    outputs, inputs = weight.shape[:2]
    kernel = (_KERNEL @ weight.reshape(-1, 9).T).view(TILE**2, outputs, inputs).transpose(1, 2)
    values = (_OUTPUT @ torch.bmm(tiles, kernel).view(TILE**2, -1)).view(-1, outputs)
    return values.index_select(0, _places_of_pixels(*sizes))


def _number_of_tiles(height: int, width: int) -> tuple[int, int]:
    return -(-height // STEP), -(-width // STEP)


@lru_cache(maxsize=64)
def _pixels_of_tiles(number: int, height: int, width: int) -> Tensor:
    """Return the number of the pixel of each value of the tiles, N * H * W outside: (6 * 6 * P,)."""
    rows, columns = _number_of_tiles(height, width)
    offsets = torch.arange(-1, TILE - 1)
    y = (offsets[:, None] + STEP * torch.arange(rows)).view(TILE, 1, 1, rows, 1)
    x = (offsets[:, None] + STEP * torch.arange(columns)).view(1, TILE, 1, 1, columns)
    image = torch.arange(number).view(-1, 1, 1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return torch.where(inside, (image * height + y) * width + x, number * height * width).flatten()


@lru_cache(maxsize=64)
def _places_of_pixels(number: int, height: int, width: int) -> Tensor:
    """Return the place of each pixel among the outputs (4, 4, P) of the tiles: (N * H * W,)."""
    rows, columns = _number_of_tiles(height, width)
    image, y, x = (torch.arange(size) for size in (number, height, width))
    image, y = image.view(-1, 1, 1), y.view(-1, 1)
    within = (y % STEP) * STEP + x % STEP
    return (((within * number + image) * rows + y // STEP) * columns + x // STEP).flatten()
