"""Writing models as ONNX files and OpenVINO folders."""

from __future__ import annotations

import io
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..atomic import atomic_write
from .info import INFO_KEY, GraphInfo
from .operators import translations
from .quantization import quantize

__all__ = ["describe", "save_onnx", "save_openvino", "trace"]

_OPSET = 18
# limits of the batch and of a side in pixels, for the tracer only; graphs compute smaller and larger ones
_MOST_IMAGES, _LEAST_SIDE, _MOST_SIDE = 256, 65, 32768
# Modules that decide about scores and boxes: float32 also in a bfloat16 model. The ranking head is none of
# them: in float32 it keeps no more ranks (measured with the model of `make demo`).
_DECIDING = re.compile(
    r"\b(cls_logits|bbox_pred|ctrness|box_predictor|objectness_logits|anchor_deltas|"
    r"class_embed|bbox_embed|ref_point_head|reference_points|(encoder_)?(class|bbox)_head|enc_output|scales)\b"
)
# Floating point also in a model with 8-bit integers, where it costs more ranks than in bfloat16.
_RANKING = re.compile(r"\bsor_head\b")
# keys of the metadata of nodes while a model is written
_DECIDES, _RANKS = "sor_ppa.decides", "sor_ppa.ranks"
_LARGE = 1024  # values of a weight that is worth halving


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

    Its step is ``model.export_divisibility``, where it has one, or the divisibility of the backbone. Its
    masks cover boxes, unless ``model.export_masks`` says otherwise.
    """
    step = getattr(model, "export_divisibility", None) or model.backbone.size_divisibility
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = ""  # a path of this machine
    options = cfg.INPUT
    return GraphInfo(
        config=cfg.dump(),
        class_names=class_names,
        version=__version__,
        precision=precision,
        divisibility=max(step, 1),
        format=options.FORMAT,
        short_side=int(options.MIN_SIZE_TEST),
        long_side=int(options.MAX_SIZE_TEST),
        masks=getattr(model, "export_masks", "box"),
    )


@torch.no_grad()
def trace(model: nn.Module, info: GraphInfo) -> onnx.ModelProto:
    """Return the ONNX model of ``model.infer_flat``, with dynamic batch and size.

    Args:
        model: in evaluation mode on the CPU, with plain PyTorch layers.
        info: is put into its metadata.
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
        program: Any = torch.export.export(
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
    _round_down(proto)
    parts = ((_DECIDES, _DECIDING), (_RANKS, _RANKING))
    marks = [[key for key, names in parts if _belongs(node, names)] for node in proto.graph.node]
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.initializer):
        del part.metadata_props[:]  # names of modules and source lines of this machine
    for node, keys in zip(proto.graph.node, marks, strict=True):
        for key in keys:
            node.metadata_props.add(key=key, value="true")
    onnx.helper.set_model_props(proto, {INFO_KEY: info.to_json()})
    return proto


def _round_down(proto: onnx.ModelProto) -> None:
    """Replace ``ceil_mode`` of max pooling by padding at the end, in place.

    The result is the same; OpenVINO refuses inputs that are smaller than the kernel without it.
    """
    for node in proto.graph.node:
        named = {attribute.name: attribute for attribute in node.attribute}
        if node.op_type == "MaxPool" and "ceil_mode" in named and named["ceil_mode"].i:
            named["ceil_mode"].i = 0
            sides = len(named["strides"].ints)
            for side, stride in enumerate(named["strides"].ints):
                named["pads"].ints[sides + side] += stride - 1


def _belongs(node: onnx.NodeProto, names: re.Pattern[str]) -> bool:
    """Return whether a node belongs to a module of such a name, by its own name or that of a parameter."""
    scopes = [p.value for p in node.metadata_props if p.key == "pkg.torch.onnx.name_scopes"]
    return any(names.search(name) for name in (*scopes, *node.input))


def _marked(proto: onnx.ModelProto, *keys: str) -> set[str]:
    """Return the tensors of nodes with one of the marks."""
    nodes = (node for node in proto.graph.node if any(p.key in keys for p in node.metadata_props))
    return {name for node in nodes for name in node.output}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter, and turn off the fused attention of PyTorch, which has no ONNX form."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _halve_weights(proto: onnx.ModelProto) -> None:
    """Keep large weights as float16, in place; runtimes turn them into float32 when they load the model."""
    casts = []
    for weight in proto.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < _LARGE:
            continue
        name, half = weight.name, f"{weight.name}.half"
        largest = np.finfo(np.float16).max
        weight.CopyFrom(onnx.numpy_helper.from_array(values.clip(-largest, largest).astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def save_onnx(proto: onnx.ModelProto, info: GraphInfo, path: str | os.PathLike[str]) -> None:
    """Write one ONNX file, whole or not at all; ``proto`` may be changed."""
    if info.precision == "fp16":
        _halve_weights(proto)
    with atomic_write(path) as part:
        onnx.save(proto, os.fspath(part))


def save_openvino(
    proto: onnx.ModelProto,
    info: GraphInfo,
    folder: str | os.PathLike[str],
    calibration: Sequence[Mapping[str, NDArray[Any]]] = (),
) -> None:
    """Write an OpenVINO folder, ``model.xml`` and ``model.bin``.

    Args:
        proto: of :func:`trace`.
        info: its metadata.
        folder: made if it does not exist.
        calibration: for "int8": inputs that give the ranges of the integers.
    """
    import openvino

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.onnx"
    onnx.save(proto, os.fspath(file))
    model = openvino.convert_model(os.fspath(file))
    if info.precision == "int8":
        model = quantize(model, calibration, _marked(proto, _DECIDES, _RANKS))
    model.set_rt_info(info.to_json(), INFO_KEY)
    openvino.save_model(model, os.fspath(folder / "model.xml"), compress_to_fp16=info.precision == "fp16")
    del model
    file.unlink()
    if info.precision in ("bf16", "int8"):
        _keep_float32(folder / "model.xml", _marked(proto, _DECIDES))


def _keep_float32(path: Path, tensors: set[str]) -> None:
    """Mark the layers that compute the tensors, so that OpenVINO's CPU plugin leaves them in float32."""
    tree = ElementTree.parse(path)
    layers = {layer.get("id"): layer for layer in tree.iter("layer")}
    chosen = {
        number
        for number, layer in layers.items()
        if any(tensors & set(port.get("names", "").split(",")) for port in layer.iter("port"))
    }
    # A convolution and its bias are two layers.
    chosen |= {edge.get("from-layer") for edge in tree.iter("edge") if edge.get("to-layer") in chosen}
    for number in chosen:
        if layers[number].get("type") not in ("Const", "Parameter"):
            marks = layers[number].find("rt_info")
            marks = ElementTree.SubElement(layers[number], "rt_info") if marks is None else marks
            ElementTree.SubElement(marks, "attribute", name="precise", version="0")
    tree.write(path)
