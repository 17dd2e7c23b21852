"""Convolutions with fewer multiplications give the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sor_ppa.export.winograd import use_winograd

openvino = pytest.importorskip("openvino")
LARGE, SMALL = 128, 96


def two_convolutions(channels: int, bias: bool, half: bool = False, stride: int = 1) -> Any:
    """Return convolution, bias, ReLU, convolution; outputs of both convolutions."""
    from openvino import opset13 as op

    generator = np.random.default_rng(0)

    def convolution(x: Any) -> Any:
        weights = (generator.normal(size=(channels, channels, 3, 3)) / 30).astype(np.float32)
        values = op.constant(weights.astype(np.float16) if half else weights)
        kernel = op.convert(values, "f32") if half else values
        y = op.convolution(x, kernel, [stride, stride], [1, 1], [1, 1], [1, 1])
        shape = (1, channels, 1, 1)
        return op.add(y, op.constant(generator.normal(size=shape).astype(np.float32))) if bias else y

    x = op.parameter([-1, channels, -1, -1], np.float32)
    first = convolution(x)
    return openvino.Model([convolution(op.relu(first)), first], [x])


def run(model: Any, x: np.ndarray) -> list[np.ndarray]:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return [np.array(y) for y in compiled(x).values()]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_results_are_those_of_the_convolution(bias: bool, half: bool) -> None:
    model = two_convolutions(LARGE, bias, half)
    assert use_winograd(model) == 2
    for shape in ((1, 14, 14), (3, 5, 9), (2, 1, 1), (1, 8, 2), (0, 14, 14)):
        x = np.random.default_rng(1).normal(size=(shape[0], LARGE, *shape[1:])).astype(np.float32)
        for expected, found in zip(run(two_convolutions(LARGE, bias, half), x), run(model, x), strict=True):
            assert found.shape == expected.shape
            assert np.abs(found - expected).max(initial=0) <= 3e-5 * np.abs(expected).max(initial=0)


def test_small_and_strided_convolutions_stay() -> None:
    assert use_winograd(two_convolutions(SMALL, bias=True)) == 0
    assert use_winograd(two_convolutions(LARGE, bias=True, stride=2)) == 0
