"""What a training or evaluation does first, and the lines that it logs."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from torch import nn

from .config import ConfigError

__all__ = ["log_copypaste", "model_line", "start_run", "summary"]

_log = logging.getLogger(__name__)
# results beside the main ones: of single classes, counts, shuffled ranks
_SIDE_RESULTS = ("AP-",), ("-images", "-shuffled")


def start_run(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Start the log, write ``OUTPUT_DIR/config.yaml``, set the seed, and choose algorithms.

    detectron2's ``default_setup``, but the configuration is written and not logged, and only a terminal gets
    colors.

    Args:
        cfg: the frozen configuration.
        args: of detectron2's ``default_argument_parser``.

    Raises:
        ConfigError: ``OUTPUT_DIR`` cannot be written.
    """
    _make_writable(cfg.OUTPUT_DIR)
    rank, folder = comm.get_rank(), cfg.OUTPUT_DIR
    setup_logger.cache_clear()
    for name in ("fvcore", "detectron2", "sor_ppa"):
        logger = logging.getLogger(name)
        for handler in [h for h in logger.handlers if type(h) is logging.StreamHandler]:
            logger.removeHandler(handler)  # of the run before this one in the same process
        setup_logger(folder, distributed_rank=rank, color=sys.stdout.isatty(), name=name)
    logging.getLogger("sor_ppa").setLevel(logging.INFO)  # setup_logger sets DEBUG
    _log.info("Process %d of %d. Environment:\n%s", rank + 1, comm.get_world_size(), collect_env_info())
    _log.info("Command line: %s", args)
    if comm.is_main_process() and folder:
        path = os.path.join(folder, "config.yaml")
        with PathManager.open(path, "w") as file:
            file.write(cfg.dump())
        _log.info("Configuration (%s and the command line): %s", args.config_file or "defaults", path)
    seed_all_rng(cfg.SEED + rank if cfg.SEED >= 0 else None)
    if not args.eval_only:
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    _choose_algorithms(cfg)


def _make_writable(folder: str) -> None:
    """Create the folder for results; raise if it cannot be written."""
    if not folder or not comm.is_main_process():
        return
    try:
        PathManager.mkdirs(folder)
        if "://" not in folder:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(2**20))  # a full disk ends the run here
    except OSError as error:
        raise ConfigError(f"OUTPUT_DIR: cannot write to {folder} ({error.strerror or error})") from error


def _choose_algorithms(cfg: CfgNode) -> None:
    """Allow only deterministic algorithms, or all, as ``DETERMINISTIC`` says."""
    if cfg.DETERMINISTIC:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(cfg.DETERMINISTIC)


def model_line(model: nn.Module) -> str:
    """Return the name of a model and its number of parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    total, trained = sum(n for n, _ in sizes) / 1e6, sum(n for n, grad in sizes if grad) / 1e6
    return f"{type(model).__name__}, {total:.2f} M parameters, {trained:.2f} M of them trained"


def log_copypaste(results: Mapping[str, Any]) -> None:
    """Log the main results as lines for spreadsheets, as detectron2 does, with those named ``SA-SOR``.

    Args:
        results: task -> name -> number.
    """
    starts, ends = _SIDE_RESULTS
    for task, values in results.items():
        main = {k: v for k, v in values.items() if not k.startswith(starts) and not k.endswith(ends)}
        _log.info("copypaste: Task: %s", task)
        _log.info("copypaste: %s", ",".join(main))
        _log.info("copypaste: %s", ",".join(f"{value:.4f}" for value in main.values()))


def summary(results: dict[str, Any]) -> str:
    """Format the numbers that papers on salient object ranking report, one per line.

    Args:
        results: of ``Trainer.test``, for one dataset or by dataset.
    """
    known = ("sor", "saliency", "bbox")
    if not any(task in results for task in known):
        named = [(k, v) for k, v in results.items() if isinstance(v, dict) and any(n in v for n in known)]
        return "\n".join(f"{name}\n{summary(part)}" for name, part in named)
    ranking = results.get("sor") or results.get("saliency") or {}
    lines = [f"  {name:24}{value:10.4f}" for name, value in ranking.items() if not name.endswith("-images")]
    if "SOR-images" in ranking:
        lines.append(f"  {'images used by SOR':24}{ranking['SOR-images']:10.0f}")
    for task, name in (("bbox", "box AP / AP50"), ("segm", "mask AP / AP50")):
        if task in results:
            lines.append(f"  {name:24}{results[task]['AP']:10.2f} / {results[task]['AP50']:.2f}")
    return "\n".join(lines)
