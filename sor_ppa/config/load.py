"""Reading a configuration: defaults, a YAML file, overrides."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.file_io import PathManager

from .allowed import check_config
from .errors import ConfigError
from .keys import add_sor_config
from .thresholds import RANKING_ROI_HEADS, score_threshold

__all__ = ["load_config", "settle_config"]

_log = logging.getLogger(__name__)


def load_config(path: str | os.PathLike[str], options: Sequence[str] = ()) -> CfgNode:
    """Return detectron2's defaults with our keys, a YAML file and ``KEY VALUE`` pairs merged, and settled.

    Keys below ``MODEL`` are checked when the model is built, all others here.

    Args:
        path: of the YAML file; empty for the defaults.
        options: keys and values, alternating.

    Raises:
        ConfigError: in one line, naming file and key.
    """
    cfg = get_cfg()
    add_sor_config(cfg)
    where = os.fspath(path)
    try:
        if where:
            if not PathManager.isfile(where):
                raise ConfigError(f"{where}: expected a config file, found no such file")
            cfg.merge_from_file(where, allow_unsafe=False)  # unsafe YAML tags can run any code
        where = "command line"
        cfg.merge_from_list(list(options))
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(
            f"{where}: expected _BASE_ files that end, found a file that is its own base"
        ) from error
    except (AttributeError, TypeError) as error:
        raise ConfigError(
            f"{where}: expected a YAML mapping of keys to values, found something else"
        ) from error
    except (KeyError, ValueError, AssertionError, MemoryError, yaml.YAMLError, OSError) as error:
        raise ConfigError(f"{where}: {_reason(error)}") from error
    settle_config(cfg)
    check_config(cfg, model=False)
    return cfg


def _reason(error: Exception) -> str:
    """Return what a merge complains about, in the words of this package where it is a common mistake."""
    # str() of a KeyError adds quotation marks, and args[0] of an OSError is a number
    said = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    said = " ".join(said.split())
    if key := re.search(r"Non-existent (?:config )?key: (\S+)", said):
        return f"{key[1]}: expected a configuration key, found an unknown name"
    if kind := re.search(
        r"Type mismatch \(<class '(\S+)'> vs\. <class '(\S+)'>\).* for config key: (\S+)", said
    ):
        wanted, found = (
            name.rpartition(".")[2].replace("CfgNode", "keys and values") for name in kind.groups()[:2]
        )
        return f"{kind[3]}: expected {wanted}, found {found}"
    if said.startswith("Override list has odd length"):
        return "expected pairs of key and value, found a key without a value"
    return said or type(error).__name__


def settle_config(cfg: CfgNode) -> None:
    """Choose, in place, what the machine and published files leave open.

    A GPU that this machine lacks becomes the CPU. Published files name detectron2's
    ``GeneralizedRCNN``; with the ROI heads of this package it becomes ``SalientObjectRanker``, the same
    network with batch-independent inference. They name no score thresholds; see :func:`score_threshold`.

    Args:
        cfg: a complete configuration.

    Raises:
        ConfigError: for a device that PyTorch does not know.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"MODEL.DEVICE: expected a device such as 'cuda', 'cuda:1' or 'cpu', found {cfg.MODEL.DEVICE!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        _log.info("MODEL.DEVICE is %s; no GPU is available, so the model runs on the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and cfg.MODEL.ROI_HEADS.NAME in RANKING_ROI_HEADS:
        cfg.MODEL.META_ARCHITECTURE = "SalientObjectRanker"
    for node, key in ((cfg.MODEL.FCOS, "INFERENCE_TH_TEST"), (cfg.MODEL.ROI_HEADS, "SCORE_THRESH_TEST")):
        node[key] = score_threshold(cfg, node[key])
