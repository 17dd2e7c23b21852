"""Prediction in every runtime: the published code, PyTorch, ONNX Runtime and OpenVINO.

``--keep DIR`` keeps the weights and the exported models of one configuration, because tracing takes minutes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from inference import (
    DETECTIONS,
    main_pictures,
    main_tasks,
    our_model,
    our_saliency,
    ours,
    predict,
    published,
    saliency_network,
    saliency_tasks,
)
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
    with kept_folder(options) as folder:
        arguments = (options, f"{folder}/weights.pth")
        variants = [Variant("published", published, arguments)] if options.published else []
        variants.append(Variant("PyTorch", our_saliency if _gives_maps(options) else ours, arguments))
        variants += [Variant(name, _exported, (*arguments, *kind)) for name, kind in RUNTIMES.items()]
        return compare(variants, options)


@contextmanager
def kept_folder(options: Options) -> Iterator[str]:
    """Yield the folder of weights and exported models: that of ``--keep``, or one for this run."""
    if options.keep:
        Path(options.keep).mkdir(parents=True, exist_ok=True)
        yield options.keep
        return
    with tempfile.TemporaryDirectory() as folder:
        yield folder


def _gives_maps(options: Options) -> bool:
    return "inspyrenet" in options.config


def _exported(options: Options, weights: str, form: str, precision: str) -> dict[str, Task]:
    from sor_ppa.export.saliency import ExportedNetwork
    from sor_ppa.inspyrenet import InSPyReNet

    if not _gives_maps(options):
        return main_tasks(partial(predict, exported_ranker(options, weights, form, precision)), options)
    network, tasks = saliency_network(options, weights)
    model = InSPyReNet(network=network, pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1))
    images = [tasks[0][1][0].numpy()]
    return saliency_tasks(ExportedNetwork(_graph(model, options, weights, form, precision, images)), tasks)


def exported_ranker(options: Options, weights: str, form: str, precision: str) -> Any:
    """Return the exported model, which is called as detectron2's models are."""
    from sor_ppa.export.model import ExportedRanker

    images = [picture["image"].numpy() for picture in main_pictures(options)]
    return ExportedRanker(_graph(our_model(options, weights), options, weights, form, precision, images))


def _graph(model: Any, options: Options, weights: str, form: str, precision: str, images: list[Any]) -> Any:
    """Return a model in a runtime; files beside the weights save exporting and tracing it again.

    Args:
        model: in PyTorch.
        options: of the benchmark.
        weights: the file.
        form: of ``sor-ppa export``.
        precision: of ``sor-ppa export``.
        images: (3, H, W) float32, for calibration.
    """
    import onnx

    from sor_ppa.config import load_config
    from sor_ppa.cpu_inference import fold_for_inference
    from sor_ppa.export.model import pad_images
    from sor_ppa.export.runtime import load_graph
    from sor_ppa.export.writer import describe, save_onnx, save_openvino, trace

    path = Path(weights).with_name(f"{precision}.onnx" if form == "onnx" else precision)
    if not path.exists():
        words = [] if _gives_maps(options) else DETECTIONS
        info = describe(load_config(options.config, [*words, *options.opts]), model, (), precision)
        traced = path.with_name("fp32.onnx")
        proto = onnx.load(traced) if traced.exists() else trace(fold_for_inference(model), info)
        if form == "onnx":
            save_onnx(proto, info, path)
        else:
            part = path.with_name(f"part_{path.name}")  # an export that is stopped leaves no broken model
            save_openvino(proto, info, part, [pad_images([image], info.divisibility) for image in images])
            os.replace(part, path)
    return load_graph(path, threads=options.threads)
