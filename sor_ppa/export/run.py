"""Exporting a model: write it, compare it with PyTorch, keep it if they agree."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from numpy.typing import NDArray
from torch import nn

from ..building import build_loaded_model
from ..config import ConfigError
from ..cpu_inference import fold_for_inference
from ..data.synthetic import draw_scene
from ..inference_model import check_gives_objects, gives_ranks
from ..pictures import Picture
from ..predictor import SORPredictor, class_names_of
from ..saliency_predictor import SaliencyPredictor
from .calibration import calibration_pictures, graph_inputs, readable_pictures
from .compare import Agreement, compare_results
from .info import FORMATS
from .model import ExportedRanker
from .quantization import check_nncf
from .runtime import computes_bfloat16, load_graph
from .saliency import MapAgreement, compare_maps
from .writer import describe, save_onnx, save_openvino, trace

__all__ = ["ExportError", "example_pictures", "export_model"]

_log = logging.getLogger(__name__)
# mixed sizes, upright and wide
_EXAMPLE_SIZES = ((480, 640), (360, 640), (640, 427), (300, 300), (333, 500))
_COMPARED = 50  # pictures, where ranks may change


class ExportError(ValueError):
    """A model that cannot be exported, or whose export computes something else."""


def example_pictures(number: int) -> list[NDArray[np.uint8]]:
    """Return painted scenes (H, W, 3) uint8 BGR of mixed sizes, and a gray picture without objects."""
    scenes = [draw_scene((7, i), *_EXAMPLE_SIZES[i % len(_EXAMPLE_SIZES)]).image for i in range(number - 1)]
    return [*scenes, np.full((240, 320, 3), 128, np.uint8)]


def export_model(
    cfg: CfgNode,
    output: str | os.PathLike[str],
    *,
    class_names: Sequence[str] = (),
    format: str = "onnx",
    precision: str = "fp32",
    pictures: Iterable[Picture] = (),
    calibration: Iterable[Picture] = (),
    mask_scores: bool = False,
) -> Agreement | MapAgreement:
    """Write a model for ONNX Runtime or OpenVINO after its results were compared with those of PyTorch.

    Args:
        cfg: with the weights in ``MODEL.WEIGHTS``.
        output: the ``.onnx`` file, or the folder for OpenVINO; replaced if it exists.
        class_names: of the classes in order.
        format: of :data:`FORMATS`.
        precision: of ``FORMATS[format]``. "fp16" halves the file; "bf16" computes most layers in bfloat16;
            "int8" computes most convolutions in 8-bit integers.
        pictures: to compare on; default: 50 of the calibration, else :func:`example_pictures`, eight in
            float32 and 50 in other precisions.
        calibration: for "int8": pictures like those that the model will see; they give the ranges of the
            integers. At most a hundred are used.
        mask_scores: write the mask IoU head, too. Only mask AP depends on it.

    Raises:
        ExportError: the model has no form for export, or the results differ: in float32 beyond rounding,
            else so much that the file is of no use.
        ConfigError: a setting that exports do not support.
        ValueError: another format or precision, an output that does not fit the format or is something else
            than an earlier export, no picture that can be read, or "int8" without
            calibration pictures that can be read.
        ImportError: "int8" without NNCF.
    """
    if precision not in FORMATS.get(format, ()):
        offered = ", ".join(f"{name} in {'/'.join(kinds)}" for name, kinds in FORMATS.items())
        raise ValueError(f"format and precision: expected {offered}, found {format} in {precision}")
    target = Path(output)
    if (target.suffix == ".onnx") != (format == "onnx"):
        expected = "a name that ends in .onnx" if format == "onnx" else "the name of a folder"
        raise ValueError(f"output: expected {expected}, found {target.name}")
    _check_replaceable(target, format)
    calibration = list(calibration)
    if bool(calibration) != (precision == "int8"):
        expected = "photos like yours for int8" if precision == "int8" else f"none for {precision}"
        raise ValueError(f"calibration: expected {expected}, found {len(calibration) or 'none'}")
    if precision == "int8":
        check_nncf()
        calibration = calibration_pictures(calibration)
    pictures = list(pictures)
    pictures = readable_pictures(pictures, "images") if pictures else calibration[:_COMPARED]
    pictures = pictures or example_pictures(8 if precision == "fp32" else _COMPARED)
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "cpu"
    saliency = cfg.MODEL.META_ARCHITECTURE == "InSPyReNet"
    model = build_loaded_model(cfg, fold_for_inference) if saliency else _exportable_model(cfg)
    if mask_scores:
        heads: Any = getattr(model, "roi_heads", None)
        if getattr(heads, "maskiou_head", None) is None:
            raise ConfigError("MODEL.MASKIOU_ON: expected True for mask scores, found a model without them")
        heads.flat_mask_scores = True
    names = tuple(class_names) or (() if saliency else class_names_of(cfg, cfg.MODEL.WEIGHTS))
    info = describe(cfg, model, names, precision)
    _log.warning("tracing %s; a transformer takes minutes", cfg.MODEL.META_ARCHITECTURE)
    proto = trace(model, info)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        written = Path(folder) / target.name
        if format == "onnx":
            save_onnx(proto, info, written)
        elif precision == "int8":
            _log.warning("calibrating on %d pictures", len(calibration))
            plain = Path(folder) / "float32"
            save_openvino(proto, replace(info, precision="fp32"), plain)
            inputs = graph_inputs(_exported_predictor(cfg, plain), calibration)
            save_openvino(proto, info, written, inputs)
        else:
            save_openvino(proto, info, written)
        del proto
        if precision in ("bf16", "int8") and not computes_bfloat16():
            _log.warning("this CPU computes bfloat16 in float32: what it changes elsewhere is not counted")
        agreement = _compare(cfg, model, written, pictures)
        if not (agreement.equal if precision == "fp32" else agreement.usable):
            raise ExportError(
                f"{target}: expected the results of PyTorch, found {agreement}; nothing written"
            )
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(written, target)
    return agreement


def _check_replaceable(target: Path, format: str) -> None:
    """Raise ValueError if there is something else at the target than an earlier export."""
    if format == "onnx":
        good = target.is_file()
    else:
        good = target.is_dir() and {path.name for path in target.iterdir()} <= {"model.xml", "model.bin"}
        good = good and not Path.cwd().is_relative_to(target.resolve())
    if target.exists() and not good:
        raise ValueError(f"output: expected a new name or an earlier export, found something else: {target}")


def _exportable_model(cfg: CfgNode) -> nn.Module:
    """Return the loaded model with plain PyTorch layers."""
    check_gives_objects(cfg)
    for key, used in (
        ("TEST.AUG.ENABLED", cfg.TEST.AUG.ENABLED),
        ("MODEL.SALIENCE_DETR.TEST_RESIZE", _resizes_inside(cfg)),
        ("MODEL.SOR.REFINE", cfg.MODEL.SOR.REFINE),
        ("MODEL.SOR.RANK_BY", cfg.MODEL.SOR.RANK_BY != "head"),
    ):
        if used:
            raise ConfigError(f"{key}: expected its default in an export, found another value")
    if not gives_ranks(cfg):
        raise ExportError("MODEL.SOR.NAME: expected a model that ranks, found a plain detector")
    model = build_loaded_model(cfg, fold_for_inference)
    if not hasattr(model, "infer_flat"):
        raise ExportError(
            f"MODEL.META_ARCHITECTURE: expected one that exports, found {cfg.MODEL.META_ARCHITECTURE}"
        )
    return model


def _resizes_inside(cfg: CfgNode) -> bool:
    used = cfg.MODEL.META_ARCHITECTURE == "RankingSalienceDETR"
    return used and bool(cfg.MODEL.SALIENCE_DETR.TEST_RESIZE)


def _exported_predictor(cfg: CfgNode, path: Path) -> SORPredictor | SaliencyPredictor:
    if cfg.MODEL.META_ARCHITECTURE == "InSPyReNet":
        cfg = cfg.clone()
        cfg.MODEL.WEIGHTS = os.fspath(path)
        return SaliencyPredictor(cfg)
    return SORPredictor(cfg, model=ExportedRanker(load_graph(path, threads=torch.get_num_threads())))


def _compare(cfg: CfgNode, model: Any, path: Path, pictures: Sequence[Picture]) -> Agreement | MapAgreement:
    found = _exported_predictor(cfg, path)
    if isinstance(found, SaliencyPredictor):
        saliency = SaliencyPredictor(cfg, model=model)
        return compare_maps((saliency(picture), found(picture)) for picture in pictures)
    expected = SORPredictor(cfg, model=model)
    return compare_results(zip(expected.stream(pictures), found.stream(pictures), strict=True))
