"""Rankers converted to OpenVINO on this machine, which runs them faster than PyTorch on a CPU."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray

from .. import __version__
from ..config import ConfigError
from ..data.synthetic import draw_scene
from ..zoo import cache_folder
from .model import ExportedRanker
from .runtime import load_graph

__all__ = ["RUNTIMES", "conversion_pays", "converted_ranker", "try_conversion"]

RUNTIMES = ("auto", "pytorch", "openvino")
# architecture and proposal generator of CenterMask, which was measured to be faster in OpenVINO in float32
_FASTER = ("SalientObjectRanker", "FCOS")
# Converting takes about a minute. OpenVINO then saves 0.2 (small networks) to 0.4 of the time.
_CONVERSION_PAYS = 420.0  # seconds of PyTorch
_FEWEST_TIMED = 100  # pictures; with fewer, timing one costs too much
_KEPT = 8  # conversions, those used last; the full CenterMask takes 250 MB
_log = logging.getLogger(__name__)


def converted_ranker(
    cfg: CfgNode, weights: str, runtime: str, class_names: Sequence[str]
) -> ExportedRanker | None:
    """Return the model of a configuration in OpenVINO; None where PyTorch is to run it.

    Args:
        cfg: of the model.
        weights: its weight file.
        runtime: "openvino" converts a model that is not yet converted, which takes about a minute; "auto"
            takes a converted one, if there is one and the device is the CPU; "pytorch" gives None. Only
            CenterMask is converted: others are not faster, or were not measured.
        class_names: of the classes in order.

    Raises:
        ValueError: another runtime, or "openvino" for another model than CenterMask or without a weight file;
            see also :func:`sor_ppa.export.run.export_model`.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime: expected one of {', '.join(RUNTIMES)}, found {runtime!r}")
    faster = _is_faster(cfg)
    if runtime == "pytorch" or (runtime == "auto" and not (faster and cfg.MODEL.DEVICE == "cpu")):
        return None
    if not faster:
        raise ValueError("runtime: expected pytorch for a model other than CenterMask, found openvino")
    if runtime == "openvino" and not os.path.isfile(weights):
        raise ValueError(f"runtime: expected a weight file for openvino, found {weights or 'none'}")
    folder = _folder(cfg, weights)
    if folder is None or (runtime == "auto" and not folder.is_dir()):
        return None
    if not folder.is_dir():
        from .run import export_model  # imports the predictor, which imports this module

        _log.warning("converting %s to OpenVINO; later runs take it from %s", weights, folder.parent)
        export_model(cfg, folder, class_names=class_names, format="openvino")
        for old in sorted(folder.parent.glob("[!.]*"), key=os.path.getmtime)[:-_KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    try:
        graph = load_graph(folder, threads=torch.get_num_threads())
    except (OSError, ValueError) as error:
        _log.warning("%s; removed", error)
        shutil.rmtree(folder)
        return converted_ranker(cfg, weights, runtime, class_names)
    with suppress(OSError):  # a folder that cannot be written
        os.utime(folder)
    _log.info("OpenVINO runs %s", folder)
    return ExportedRanker(graph)


def conversion_pays(
    cfg: CfgNode, weights: str, pictures: int, rank: Callable[[NDArray[np.uint8]], object]
) -> bool:
    """Return whether a model should be converted for a number of pictures, as timed on one.

    Args:
        cfg: of the model.
        weights: its weight file.
        pictures: how many there are.
        rank: ranks one, (H, W, 3) uint8, in PyTorch.
    """
    if pictures < _FEWEST_TIMED or not _is_faster(cfg) or cfg.MODEL.DEVICE != "cpu":
        return False
    if _folder(cfg, weights) is None:
        return False
    scene = draw_scene((0,), 480, 640).image
    for _ in range(2):  # the first one is slower
        start = time.perf_counter()
        rank(scene)
    return pictures * (time.perf_counter() - start) >= _CONVERSION_PAYS


def try_conversion(cfg: CfgNode, weights: str, class_names: Sequence[str]) -> ExportedRanker | None:
    """Return the converted model; None where it cannot be converted, with a warning if it should be.

    Args:
        cfg, weights, class_names: as for :func:`converted_ranker`.
    """
    try:
        return converted_ranker(cfg, weights, "openvino", class_names)
    except ConfigError:  # a setting that exports do not support
        return None
    except (ImportError, OSError, ValueError) as error:
        _log.warning("not converted to OpenVINO: %s", error)
        return None


def _is_faster(cfg: CfgNode) -> bool:
    return (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.PROPOSAL_GENERATOR.NAME) == _FASTER


def _folder(cfg: CfgNode, weights: str) -> Path | None:
    """Return where the conversion of a model is kept; None without OpenVINO or a weight file.

    The name depends on everything that the result depends on; the content of the weight file is represented
    by its path, size and time.
    """
    if not os.path.isfile(weights):
        return None
    try:
        versions = __version__, torch.__version__, version("openvino"), version("onnx")
    except PackageNotFoundError:
        return None
    state = os.stat(weights)
    key = (os.path.realpath(weights), state.st_size, state.st_mtime_ns, *versions, cfg.dump())
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    return cache_folder() / "openvino" / name
