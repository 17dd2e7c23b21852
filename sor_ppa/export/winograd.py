"""Convolutions of an OpenVINO model with fewer multiplications.

Winograd's algorithm F(4x4, 3x3) computes 4 x 4 outputs of a 3 x 3 convolution from a tile of 6 x 6 inputs
with 36 multiplications a channel pair instead of 144 (Lavin and Gray, Fast Algorithms for Convolutional
Neural Networks, CVPR 2016, section 4.3). OpenVINO has no such kernel for CPUs, so it is written as matrix
products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["use_winograd"]

_TILE, _STEP = 6, 4
# B^T, G and A^T of the paper
_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
_KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_OUTPUT = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])
# With fewer channels, the transforms of the tiles cost more than the multiplications that they save.
_LEAST_CHANNELS = 160


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
    products = np.kron(_KERNEL, _KERNEL) @ weights.reshape(-1, 9).T.astype(np.float64)
    return products.reshape(_TILE**2, outputs, inputs).transpose(0, 2, 1).astype(np.float32)


def _numbers(*values: int) -> Any:
    from openvino import opset13 as op

    return op.constant(np.array(values, np.int64))


def _convolution(x: Any, kernel: Any) -> Any:
    """Return the convolution, padded by one, of (N, H, W, C) with a kernel (36, C, D): (N, H, W, D)."""
    from openvino import opset13 as op

    _, channels, outputs = kernel.get_output_shape(0)
    end = np.iinfo(np.int64).max

    def numbers_of(vector: Any, *indices: int) -> Any:
        return op.gather(vector, _numbers(*indices), _numbers(0))

    def part(y: Any, axis: int, start: int, stop: int) -> Any:
        return op.slice(y, _numbers(start), _numbers(stop), _numbers(1), _numbers(axis))

    def transformed(matrix: np.ndarray, y: Any) -> Any:
        square = op.constant(np.kron(matrix, matrix).astype(np.float32))
        return op.matmul(square, op.reshape(y, _numbers(_TILE**2, -1), False), False, False)

    shape = op.shape_of(x)
    number, size = numbers_of(shape, 0), numbers_of(shape, 1, 2)
    step, one = _numbers(_STEP), _numbers(1)
    tiles = op.divide(op.add(size, _numbers(_STEP - 1)), step)
    blocks = op.add(tiles, one)
    # Blocks of 4 x 4; a tile is a block and the first two rows and columns of the next ones.
    after = op.subtract(op.subtract(op.multiply(blocks, step), size), one)
    after = op.concat([_numbers(0), after, _numbers(0)], 0)
    padded = op.pad(x, _numbers(0, 1, 1, 0), after, "constant", op.constant(np.float32(0)))
    rows, columns = numbers_of(blocks, 0), numbers_of(blocks, 1)
    y = op.reshape(padded, op.concat([number, rows, step, columns, _numbers(_STEP * channels)], 0), False)
    overlap = _TILE - _STEP
    y = op.concat([part(y, 1, 0, -1), part(part(y, 1, 1, end), 2, 0, overlap)], 2)
    y = op.concat([part(y, 3, 0, -1), part(part(y, 3, 1, end), 4, 0, overlap * channels)], 4)
    y = op.reshape(y, _numbers(0, 0, 0, 0, _TILE, channels), True)
    y = transformed(_INPUT, op.transpose(y, _numbers(2, 4, 0, 1, 3, 5)))
    y = op.matmul(op.reshape(y, _numbers(_TILE**2, -1, channels), False), kernel, False, False)
    y = transformed(_OUTPUT, y)
    y = op.reshape(y, op.concat([_numbers(_STEP, _STEP), number, tiles, _numbers(outputs)], 0), False)
    y = op.transpose(y, _numbers(2, 3, 0, 4, 1, 5))
    y = op.reshape(y, op.concat([number, op.multiply(tiles, step), _numbers(outputs)], 0), False)
    return op.slice(y, _numbers(0, 0), size, _numbers(1, 1), _numbers(1, 2))
