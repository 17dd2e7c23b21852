"""Writing models as ONNX files and OpenVINO folders."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from .. import __version__
from ..atomic import atomic_write
from .info import INFO_KEY, GraphInfo
from .operators import translations

__all__ = ["describe", "save_onnx", "save_openvino", "trace"]

_OPSET = 18
# limits of the batch and of a side in pixels, for the tracer only; graphs compute smaller and larger ones
_MOST_IMAGES, _LEAST_SIDE, _MOST_SIDE = 256, 65, 32768
# modules that decide about scores, boxes and ranks: float32 also in a bfloat16 model
_DECIDING = "cls_logits|bbox_pred|ctrness|sor_head|box_predictor|objectness_logits|anchor_deltas"


class _FlatInference(nn.Module):
    """``infer_flat`` of a model as its ``forward``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, sizes: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        return model.infer_flat(images, sizes)


def describe(cfg: CfgNode, model: Any, class_names: tuple[str, ...], precision: str) -> GraphInfo:
    """Return the metadata of a model.

    Its step is ``model.export_divisibility``, where it has one, or the divisibility of the backbone.
    """
    step = getattr(model, "export_divisibility", None) or model.backbone.size_divisibility
    options = cfg.INPUT
    sides = int(options.MIN_SIZE_TEST), int(options.MAX_SIZE_TEST)
    return GraphInfo(cfg.dump(), class_names, __version__, precision, max(step, 1), options.FORMAT, *sides)


@torch.no_grad()
def trace(model: nn.Module, info: GraphInfo) -> tuple[onnx.ModelProto, GraphInfo]:
    """Return the ONNX model of ``model.infer_flat``, with dynamic batch and size, and its metadata.

    Args:
        model: in evaluation mode on the CPU, with plain PyTorch layers.
        info: the metadata; for bfloat16, the tensors that stay in float32 are added.
    """
    step = info.divisibility
    rows, columns, least = (160, 224, _LEAST_SIDE) if step == 1 else (5, 7, 1)
    images = torch.rand(2, 3, rows * step, columns * step) * 255
    sizes = torch.tensor([[rows * step, (columns - 1) * step + 1], [(rows - 1) * step + 1, columns * step]])
    batch = torch.export.Dim("batch", min=1, max=_MOST_IMAGES)
    most = _MOST_SIDE // step
    height, width = (torch.export.Dim(name, min=least, max=most) for name in ("rows", "columns"))
    with _quiet():
        names = list(model.infer_flat(images, sizes))  # type: ignore[operator]
        # The tracer writes comparisons of sizes that it cannot decide as assertions; ONNX leaves them out.
        program = torch.export.export(
            _FlatInference(model).eval(),
            (images, sizes),
            dynamic_shapes={"images": {0: batch, 2: step * height, 3: step * width}, "sizes": {0: batch}},
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        program = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=_OPSET,
            input_names=["images", "sizes"],
            output_names=names,
            custom_translation_table=translations(),
            external_data=False,
            verbose=False,
        )
    proto: onnx.ModelProto = program.model_proto
    if info.precision == "bf16":
        info = replace(info, float32=_deciding_tensors(proto))
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        del part.metadata_props[:]  # names of modules and source lines of this machine
    onnx.helper.set_model_props(proto, {INFO_KEY: info.to_json()})
    return proto, info


def _deciding_tensors(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Return the outputs of the layers in :data:`_DECIDING`, by their modules or parameters."""
    chosen = []
    for node in proto.graph.node:
        origin = [p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
        if any(re.search(rf"\b({_DECIDING})\b", name) for name in [*origin, *node.input]):
            chosen += node.output
    return tuple(chosen)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, and turn off the fused attention of PyTorch, which has no ONNX form."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        logger.setLevel(level)


def save_onnx(proto: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write one ONNX file, whole or not at all."""
    with atomic_write(path) as part:
        onnx.save(proto, os.fspath(part))


def save_openvino(proto: onnx.ModelProto, info: GraphInfo, folder: str | os.PathLike[str]) -> None:
    """Write an OpenVINO folder: ``model.xml`` and ``model.bin``; a former one is replaced."""
    import openvino

    folder = Path(folder)
    part = Path(f"{folder}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    file = part / "model.onnx"
    onnx.save(proto, os.fspath(file))
    model = openvino.convert_model(os.fspath(file))
    for operator in model.get_ops():
        if operator.get_type_name() == "TopK":
            operator.set_attribute("stable", True)  # as in ONNX Runtime
    model.set_rt_info(info.to_json(), INFO_KEY)
    openvino.save_model(model, os.fspath(part / "model.xml"), compress_to_fp16=info.precision == "fp16")
    del model
    file.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
