"""Choosing the model of a command."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from ..export.cache import RUNTIMES
from ..predictor import SORPredictor
from ..zoo import catalog, installed

__all__ = ["add_model_arguments", "chosen_model", "default_model", "load_predictor", "model_settings"]

TRAINING_FREE = "contrast"


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a ranker."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        metavar="NAME",
        help="a name of `sor-ppa models`, a checkpoint file, or contrast (training-free); "
        "default: the best ranker on this machine",
    )
    group.add_argument("--config-file", metavar="FILE", help="of a checkpoint that has no config inside")
    group.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="auto",
        help="openvino: converts CenterMask once, for the CPU; default: OpenVINO if the model is converted, "
        "or if converting it saves time, else PyTorch",
    )
    group.add_argument("--batch-size", type=int, default=4, metavar="N", help="photos at once (default: 4)")
    group.add_argument(
        "--confidence-threshold",
        type=float,
        default=0.0,
        metavar="P",
        help="drop detections below it (default: %(default)s)",
    )
    group.add_argument(
        "--opts",
        nargs="+",
        default=[],
        metavar="KEY VALUE",
        help="configuration keys, for example MODEL.DEVICE cpu",
    )


def default_model() -> str:
    """Return the best ranker on this machine: a fetched one, else the training-free one."""
    return next((e.name for e in catalog().values() if e.task == "rank" and installed(e.name)), TRAINING_FREE)


def chosen_model(options: argparse.Namespace) -> str:
    """Return the model that the options name; without one, the default, and say which that is."""
    if options.model is not None:
        return str(options.model)
    model = default_model()
    better = "" if model != TRAINING_FREE else "; a trained one is better: sor-ppa models get ppa-v39"
    sys.stderr.write(f"model: {model}{better}\n")
    return model


def model_settings(options: argparse.Namespace, model: str) -> dict[str, Any]:
    """Return what results depend on besides the name of the model, for JSON."""
    names = ("config_file", "opts", "runtime", "confidence_threshold")
    changed = os.stat(model).st_mtime_ns if os.path.exists(model) else None
    return {name: getattr(options, name) for name in names} | {"model_changed": changed}


def load_predictor(options: argparse.Namespace, model: str | None = None) -> SORPredictor:
    """Build the predictor that the options describe."""
    return SORPredictor.from_pretrained(
        model or chosen_model(options),
        config=options.config_file,
        options=options.opts,
        batch_size=options.batch_size,
        min_score=options.confidence_threshold,
        runtime=options.runtime,
    )
