"""Rankers converted to OpenVINO on this machine, which runs them faster than PyTorch on a CPU."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from detectron2.config import CfgNode

from .. import __version__
from ..zoo import cache_folder
from .model import ExportedRanker
from .runtime import load_graph

__all__ = ["RUNTIMES", "can_convert", "converted_ranker"]

RUNTIMES = ("auto", "pytorch", "openvino")
# architecture and proposal generator of CenterMask, which was measured to be faster in OpenVINO in float32
_FASTER = ("SalientObjectRanker", "FCOS")
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
    if runtime == "pytorch" or (runtime == "auto" and not can_convert(cfg, weights)):
        return None
    if not _is_faster(cfg):
        raise ValueError("runtime: expected pytorch for a model other than CenterMask, found openvino")
    if not os.path.isfile(weights):
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


def can_convert(cfg: CfgNode, weights: str) -> bool:
    """Return whether OpenVINO, which is installed, may run a model on the CPU faster than PyTorch.

    Args:
        cfg: of the model.
        weights: its weight file.
    """
    wanted = _is_faster(cfg) and cfg.MODEL.DEVICE == "cpu" and os.path.isfile(weights)
    return wanted and _folder(cfg, weights) is not None


def _is_faster(cfg: CfgNode) -> bool:
    return (cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.PROPOSAL_GENERATOR.NAME) == _FASTER


def _folder(cfg: CfgNode, weights: str) -> Path | None:
    """Return where the conversion of a model is kept; None without OpenVINO.

    The name depends on everything that the result depends on; the content of the weight file is represented
    by its path, size and time.
    """
    try:
        versions = __version__, torch.__version__, version("openvino"), version("onnx")
    except PackageNotFoundError:
        return None
    state = os.stat(weights)
    key = (os.path.realpath(weights), state.st_size, state.st_mtime_ns, *versions, cfg.dump())
    name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    return cache_folder() / "openvino" / name
