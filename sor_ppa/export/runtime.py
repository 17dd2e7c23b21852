"""Running an exported model on arrays, in ONNX Runtime or OpenVINO."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .info import INFO_KEY, GraphInfo

__all__ = ["Graph", "is_graph", "load_graph"]

_Arrays = Mapping[str, NDArray[Any]]


class Graph(Protocol):
    """An exported model; threads may share it.

    Attributes:
        info: its metadata.
    """

    info: GraphInfo

    def __call__(self, inputs: _Arrays) -> dict[str, NDArray[Any]]:
        """Return the outputs by name for inputs by name."""
        ...


class _OnnxGraph:
    def __init__(self, path: Path, device: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        available = onnxruntime.get_available_providers()
        wanted = ["CPUExecutionProvider"]
        if device.startswith("cuda") and "CUDAExecutionProvider" in available:
            wanted.insert(0, "CUDAExecutionProvider")
        try:
            self._session = onnxruntime.InferenceSession(os.fspath(path), options, providers=wanted)
        except Exception as error:  # of the runtime, which has types of its own
            raise ValueError(f"{path}: expected an ONNX model, found {_reason(error)}") from None
        metadata = self._session.get_modelmeta().custom_metadata_map
        self.info = GraphInfo.from_json(metadata.get(INFO_KEY), os.fspath(path))
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, inputs: _Arrays) -> dict[str, NDArray[Any]]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


class _OpenVinoGraph:
    def __init__(self, path: Path, device: str, threads: int) -> None:
        import openvino

        del device  # the CPU plugin
        core = openvino.Core()
        file = path if path.is_file() else next(iter(sorted(path.glob("*.xml"))))
        try:
            model = core.read_model(file)
        except RuntimeError as error:
            raise ValueError(f"{path}: expected an OpenVINO model, found {_reason(error)}") from None
        text = model.get_rt_info(INFO_KEY).value if model.has_rt_info(INFO_KEY) else None
        self.info = GraphInfo.from_json(text, os.fspath(path))
        precision = "bf16" if self.info.precision == "bf16" else "f32"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings |= {"INFERENCE_NUM_THREADS": threads}
        compiled = core.compile_model(model, "CPU", settings)
        self._names = [output.any_name for output in compiled.outputs]
        self._request = compiled.create_infer_request()
        self._lock = threading.Lock()  # a request computes one batch at a time

    def __call__(self, inputs: _Arrays) -> dict[str, NDArray[Any]]:
        with self._lock:
            results = self._request.infer(dict(inputs))
            return {name: np.array(results[name]) for name in self._names}


def is_graph(path: str | os.PathLike[str]) -> bool:
    """Return whether a path names an exported model: ``NAME.onnx``, or a folder with an ``.xml`` file."""
    path = Path(path)
    return path.suffix == ".onnx" or (path.is_dir() and any(path.glob("*.xml")))


def load_graph(path: str | os.PathLike[str], *, device: str = "cpu", threads: int = 0) -> Graph:
    """Return an exported model that is ready to run.

    Args:
        path: of the ``.onnx`` file or the OpenVINO folder.
        device: "cuda" takes a GPU where ONNX Runtime has it; OpenVINO runs on the CPU.
        threads: of the CPU; 0: the runtime decides.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: not a model of `sor-ppa export`.
        ImportError: the runtime is not installed.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an exported model, found no such file")
    kind = _OnnxGraph if path.suffix == ".onnx" else _OpenVinoGraph
    try:
        return kind(path, device, threads)
    except ImportError as error:
        raise ImportError(f"{path}: {error}; pip install 'sor_ppa[export]'") from None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
