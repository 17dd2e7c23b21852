"""Running an exported model on arrays, in ONNX Runtime or OpenVINO."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .info import INFO_KEY, GraphInfo
from .winograd import use_winograd

__all__ = ["Graph", "computes_bfloat16", "is_graph", "is_onnx", "load_graph", "read_info"]

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
        available = onnxruntime.get_available_providers()
        wanted = ["CPUExecutionProvider"]
        if device.startswith("cuda") and "CUDAExecutionProvider" in available:
            wanted.insert(0, "CUDAExecutionProvider")
        self._session, self.info = _read_onnx(path, options, wanted)
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, inputs: _Arrays) -> dict[str, NDArray[Any]]:
        return dict(zip(self._names, self._session.run(self._names, dict(inputs)), strict=True))


class _OpenVinoGraph:
    def __init__(self, path: Path, device: str, threads: int) -> None:
        import openvino

        del device  # the CPU plugin
        core = openvino.Core()
        model, self.info = _read_openvino(core, path)
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if self.info.precision != "int8":  # there, other layers take bfloat16 where the CPU has it
            precision = "bf16" if self.info.precision == "bf16" and computes_bfloat16() else "f32"
            settings["INFERENCE_PRECISION_HINT"] = precision
            if precision == "f32":
                use_winograd(model)
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


def _read_onnx(path: Path, options: Any, providers: Sequence[str]) -> tuple[Any, GraphInfo]:
    """Return a session of ONNX Runtime and the metadata of its model."""
    import onnxruntime

    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
    except Exception as error:  # of the runtime, which has types of its own
        raise ValueError(f"{path}: expected an ONNX model, found {_reason(error)}") from None
    text = session.get_modelmeta().custom_metadata_map.get(INFO_KEY)
    return session, GraphInfo.from_json(text, os.fspath(path))


def _read_openvino(core: Any, path: Path) -> tuple[Any, GraphInfo]:
    """Return the model in a folder or an ``.xml`` file, not compiled, and its metadata."""
    file = path / "model.xml"
    if not file.is_file():
        file = path if path.is_file() else min(path.glob("*.xml"))
    try:
        model = core.read_model(file)
    except RuntimeError as error:
        raise ValueError(f"{path}: expected an OpenVINO model, found {_reason(error)}") from None
    text = model.get_rt_info(INFO_KEY).value if model.has_rt_info(INFO_KEY) else None
    return model, GraphInfo.from_json(text, os.fspath(path))


def computes_bfloat16() -> bool:
    """Return whether OpenVINO has bfloat16 on this CPU; elsewhere it computes in float32."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def is_graph(path: str | os.PathLike[str]) -> bool:
    """Return whether a path names an exported model: ``NAME.onnx``, ``NAME.xml`` or a folder with one."""
    path = Path(path)
    return is_onnx(path) or path.suffix == ".xml" or (path.is_dir() and any(path.glob("*.xml")))


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Return whether a path has the suffix of an ONNX file."""
    return Path(path).suffix.lower() == ".onnx"


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
    kind = _OnnxGraph if is_onnx(path) else _OpenVinoGraph
    with _explained(path):
        return kind(path, device, threads)


def read_info(path: str | os.PathLike[str]) -> GraphInfo:
    """Return the metadata of an exported model without compiling it; errors as in :func:`load_graph`."""
    path = Path(path)
    with _explained(path):
        if not is_onnx(path):
            import openvino

            return _read_openvino(openvino.Core(), path)[1]
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _read_onnx(path, options, ["CPUExecutionProvider"])[1]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Check that the model exists, and name the extra of a runtime that is missing."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: expected an exported model, found no such file")
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{path}: {error}; pip install 'sor_ppa[export]'") from None


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
