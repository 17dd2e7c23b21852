"""Convolutions of an OpenVINO model with fewer multiplications, see :mod:`sor_ppa.layers.winograd`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..layers.winograd import INPUT, KERNEL, OUTPUT, STEP, TILE

__all__ = ["use_winograd"]

_OUTSIDE = 2**29  # twice this is an int32, too
# With fewer channels, the transforms of the tiles cost more than the multiplications that they save.
_LEAST_CHANNELS = 128


def use_winograd(model: Any) -> int:
    """Replace the large 3 x 3 convolutions of an ``openvino.Model`` in place; return their number.

    Results change by rounding in float32, about 1e-5 of the largest value. Other precisions are too coarse.
    """
    from openvino import opset13 as op

    kernels: dict[str, Any] = {}  # levels of a pyramid share theirs
    channels_last: dict[str, Any] = {}  # name of a node -> its output (N, H, W, C)
    replaced = 0
    for node in model.get_ordered_ops():
        if not _fits(node):
            continue
        weights = node.input_value(1).get_node().get_friendly_name()
        if weights not in kernels:
            kernels[weights] = op.constant(_transformed(_constant(node.input_value(1))))
        source = node.input_value(0)
        x = channels_last.get(source.get_node().get_friendly_name())
        if x is None:
            x = op.transpose(source, _numbers(0, 2, 3, 1))
        y = _convolution(x, kernels[weights])
        last = node
        while (follower := _bias_or_relu(last)) is not None:
            if follower.get_type_name() == "Relu":
                y = op.relu(y)
            else:
                y = op.add(y, op.constant(_constant(follower.input_value(1)).reshape(-1)))
            last = follower
        result = op.transpose(y, _numbers(0, 3, 1, 2))
        channels_last[result.get_friendly_name()] = y
        for target in last.output(0).get_target_inputs():
            target.replace_source_output(result.output(0))
        replaced += 1
    return replaced


def _fits(node: Any) -> bool:
    """Return whether a node is a convolution for which the algorithm pays."""
    if node.get_type_name() != "Convolution":
        return False
    weights, options = _constant(node.input_value(1)), node.get_attributes()
    if weights is None or weights.shape[2:] != (3, 3) or min(weights.shape[:2]) < _LEAST_CHANNELS:
        return False
    ones = [options[name] for name in ("strides", "dilations", "pads_begin", "pads_end")]
    return ones == [[1, 1]] * 4


def _constant(output: Any) -> Any:
    """Return the values of a constant, float32 also if kept in float16; None for another node."""
    node = output.get_node()
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    return node.data.astype(np.float32, copy=False) if node.get_type_name() == "Constant" else None


def _bias_or_relu(node: Any) -> Any:
    """Return the only node that takes the output of a node, if it is a ReLU or adds a value a channel."""
    targets = node.output(0).get_target_inputs()
    if len(targets) != 1:
        return None
    follower = next(iter(targets)).get_node()
    if follower.get_type_name() == "Relu":
        return follower
    if follower.get_type_name() != "Add" or (bias := _constant(follower.input_value(1))) is None:
        return None
    channels = node.get_output_partial_shape(0)[1].get_length()
    return follower if bias.shape == (1, channels, 1, 1) else None


def _transformed(weights: np.ndarray) -> np.ndarray:
    """Return weights (D, C, 3, 3) as (36, C, D)."""
    outputs, inputs = weights.shape[:2]
    products = np.kron(KERNEL, KERNEL) @ weights.reshape(-1, 9).T.astype(np.float64)
    return products.reshape(TILE**2, outputs, inputs).transpose(0, 2, 1).astype(np.float32)


def _numbers(*values: int) -> Any:
    from openvino import opset13 as op

    return op.constant(np.array(values, np.int32))


def _convolution(x: Any, kernel: Any) -> Any:
    """Return the convolution, padded by one, of (N, H, W, C) with a kernel (36, C, D): (N, H, W, D)."""
    from openvino import opset13 as op

    _, channels, outputs = kernel.get_output_shape(0)

    def transformed(matrix: np.ndarray, y: Any) -> Any:
        square = op.constant(np.kron(matrix, matrix).astype(np.float32))
        return op.matmul(square, op.reshape(y, _numbers(TILE**2, -1), False), False, False)

    pixels, places = _places(x)
    y = op.gather(op.reshape(x, _numbers(-1, channels), False), pixels, _numbers(0))
    y = transformed(INPUT, y)
    y = op.matmul(op.reshape(y, _numbers(TILE**2, -1, channels), False), kernel, False, False)
    y = transformed(OUTPUT, y)
    return op.gather(op.reshape(y, _numbers(-1, outputs), False), places, _numbers(0))


def _places(x: Any) -> tuple[Any, Any]:
    """Return which pixel each value of a tile is, and where each pixel is among the outputs of the tiles.

    Args:
        x: (N, H, W, C).

    Returns:
        (6, 6, N, R, S) for R x S tiles: a number of 0 ... N * H * W - 1, or at least ``_OUTSIDE``, for which
        OpenVINO gathers zeros; (N, H, W): a number of 0 ... 16 * N * R * S - 1.
    """
    from openvino import opset13 as op

    shape = op.shape_of(x, "i32")
    number, height, width = (op.gather(shape, _numbers(axis), _numbers(0)) for axis in range(3))
    rows, columns = (op.divide(op.add(side, _numbers(STEP - 1)), _numbers(STEP)) for side in (height, width))
    tiles = op.multiply(rows, columns)

    def count(stop: Any, *axes: int) -> Any:
        """Return 0, 1, ... ``stop`` - 1, with other axes of length 1."""
        start, step = op.constant(np.int32(0)), op.constant(np.int32(1))
        return op.unsqueeze(op.range(start, op.squeeze(stop, _numbers(0)), step, "i32"), _numbers(*axes))

    def taken(tiles: Any, side: Any, scale: Any) -> Any:
        """Return the coordinates times ``scale`` of the values of tiles, (6, tiles)."""
        offsets = op.constant(np.arange(-1, TILE - 1, dtype=np.int32)[:, None])
        at = op.add(op.multiply(count(tiles, 0), _numbers(STEP)), offsets)
        inside = op.logical_and(op.greater_equal(at, _numbers(0)), op.less(at, side))
        return op.select(inside, op.multiply(at, scale), _numbers(_OUTSIDE))

    def placed(side: Any, within: Any, tile: Any) -> Any:
        """Return for each coordinate its place in a tile times ``within``, and its tile times ``tile``."""
        at = count(side, 1)
        parts = (
            op.multiply(op.mod(at, _numbers(STEP)), within),
            op.multiply(op.divide(at, _numbers(STEP)), tile),
        )
        return op.add(*parts)

    image = count(number, 1, 2)
    down = op.unsqueeze(taken(rows, height, width), _numbers(1, 2, 4))
    across = op.unsqueeze(taken(columns, width, _numbers(1)), _numbers(0, 2, 3))
    pixels = op.add(op.add(down, op.multiply(image, op.multiply(height, width))), across)

    all_tiles = op.multiply(number, tiles)
    of_row = placed(height, op.multiply(all_tiles, _numbers(STEP)), columns)
    of_column = op.squeeze(placed(width, all_tiles, _numbers(1)), _numbers(1))
    return pixels, op.add(op.add(of_row, op.multiply(image, tiles)), of_column)
