"""Operators with an ONNX form of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sor_ppa.export.operators import translations

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")


class _Sort(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        result = x.sort(dim=1, descending=True, stable=True)
        return result.values, result.indices


@pytest.fixture(scope="module")
def sort_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the ONNX file of a stable sort of the rows of a table."""
    free = {axis: torch.export.Dim(name, min=0, max=10**6) for axis, name in enumerate(("rows", "columns"))}
    program = torch.export.export(_Sort(), (torch.rand(2, 5),), dynamic_shapes={"x": free})
    exported = torch.onnx.export(
        program, dynamo=True, opset_version=18, custom_translation_table=translations(), verbose=False
    )
    assert exported is not None
    path = tmp_path_factory.mktemp("sort") / "sort.onnx"
    onnx.save(exported.model_proto, str(path))
    return path


# more than 46,340 values: positions times positions exceed 32 bits
@pytest.mark.parametrize("shape", [(3, 50), (2, 3000), (1, 70000), (1, 1), (2, 0), (0, 7)])
def test_equal_values_keep_their_order(sort_file: Path, shape: tuple[int, int]) -> None:
    x = torch.randint(0, max(shape[1] // 3, 2), shape, generator=torch.Generator().manual_seed(0)).float()
    x[x == 1] = -torch.inf
    expected = x.sort(dim=1, descending=True, stable=True)
    session = onnxruntime.InferenceSession(str(sort_file), providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(openvino.convert_model(str(sort_file)), "CPU")
    for values, index in (session.run(None, {"x": x.numpy()}), compiled([x.numpy()]).to_tuple()):
        np.testing.assert_array_equal(values, expected.values)
        np.testing.assert_array_equal(index, expected.indices)
