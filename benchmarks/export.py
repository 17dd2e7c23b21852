"""Prediction of a ranker in every runtime: the published code, PyTorch, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from inference import DETECTIONS, main_pictures, main_tasks, our_model, ours, predict, published
from timing import Options, Row, Task, Variant, compare

#: variant -> format and precision of ``sor-ppa export``
RUNTIMES = {
    "ONNX Runtime": ("onnx", "fp32"),
    "OpenVINO": ("openvino", "fp32"),
    "OpenVINO, bfloat16": ("openvino", "bf16"),
    "OpenVINO, 8-bit integers": ("openvino", "int8"),
}


def measure(options: Options) -> list[Row]:
    """Measure the model of the configuration, beside the published code where its folder is given."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options, f"{folder}/weights.pth")
        variants = [Variant("published", published, arguments)] if options.published else []
        variants.append(Variant("PyTorch", ours, arguments))
        variants += [Variant(name, _exported, (*arguments, *kind)) for name, kind in RUNTIMES.items()]
        return compare(variants, options)


def _exported(options: Options, weights: str, form: str, precision: str) -> dict[str, Task]:
    from sor_ppa.config import load_config
    from sor_ppa.cpu_inference import fold_for_inference
    from sor_ppa.export.model import ExportedRanker, pad_images
    from sor_ppa.export.runtime import load_graph
    from sor_ppa.export.writer import describe, save_onnx, save_openvino, trace

    model = our_model(options, weights)
    info = describe(load_config(options.config, [*DETECTIONS, *options.opts]), model, (), precision)
    proto = trace(fold_for_inference(model), info)
    path = Path(weights).with_name(f"{precision}.onnx" if form == "onnx" else precision)
    if form == "onnx":
        save_onnx(proto, info, path)
    else:
        images = [picture["image"].numpy() for picture in main_pictures(options)]
        save_openvino(proto, info, path, [pad_images([image], info.divisibility) for image in images])
    graph = load_graph(path, threads=options.threads)
    return main_tasks(partial(predict, ExportedRanker(graph)), options)
