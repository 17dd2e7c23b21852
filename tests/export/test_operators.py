"""Operators with an ONNX form of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sor_ppa.export.operators import translations
from sor_ppa.layers.detr.deformable_attention import MultiScaleDeformableAttention
from sor_ppa.layers.tracing import first, opaque, with_first

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
    path = tmp_path_factory.mktemp("sort") / "sort.onnx"
    return _export(_Sort(), (torch.rand(2, 5),), {"x": free}, path)


def _export(module: nn.Module, inputs: tuple[Tensor, ...], free: dict[str, Any], path: Path) -> Path:
    program = torch.export.export(
        module.eval(), inputs, dynamic_shapes=free, prefer_deferred_runtime_asserts_over_guards=True
    )
    exported = torch.onnx.export(
        program, dynamo=True, opset_version=18, custom_translation_table=translations(), verbose=False
    )
    assert exported is not None
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


class _Attention(nn.Module):
    """Deformable attention to two maps, of the first three fifths of the queries."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = MultiScaleDeformableAttention(32, 2, num_heads=4, num_points=3)
        nn.init.normal_(self.attention.sampling_offsets.weight)
        nn.init.normal_(self.attention.attention_weights.weight)

    def forward(self, query: Tensor, boxes: Tensor, fine: Tensor, coarse: Tensor) -> Tensor:
        maps = (fine, coarse)
        tokens = torch.cat([part.flatten(2).transpose(1, 2) for part in maps], dim=1)
        count = opaque(3 * query.shape[1] // 5)
        shapes = [(part.shape[2], part.shape[3]) for part in maps]
        read = self.attention(first(query, count), first(boxes, count), tokens, shapes)
        return with_first(query, read)


@torch.no_grad()
def test_attention_of_the_first_queries(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = _Attention()

    def inputs(batch: int, queries: int, height: int, width: int) -> tuple[Tensor, ...]:
        maps = [torch.randn(batch, 32, side, width) for side in (height, height + 1)]
        return torch.randn(batch, queries, 32), 2 * torch.rand(batch, queries, 2, 4) - 0.5, *maps

    batch, queries, *sides = (torch.export.Dim(name) for name in ("batch", "queries", "h", "h2", "w"))
    query = {0: batch, 1: queries}
    maps = [{0: batch, 2: side, 3: sides[2]} for side in sides[:2]]
    free = {"query": query, "boxes": query, "fine": maps[0], "coarse": maps[1]}
    path = _export(module, inputs(2, 7, 6, 9), free, tmp_path / "attention.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    compiled = openvino.Core().compile_model(
        openvino.convert_model(str(path)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    for shape in ((2, 7, 6, 9), (1, 2, 1, 1), (3, 11, 12, 7)):
        given = inputs(*shape)
        expected = module(*given)
        names = dict(zip(free, (x.numpy() for x in given), strict=True))
        for found in (session.run(None, names)[0], compiled(list(names.values()))[0]):
            np.testing.assert_allclose(found, expected, atol=2e-6)
