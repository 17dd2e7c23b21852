"""Reading a configuration: defaults, a YAML file, overrides."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.utils.file_io import PathManager

from .keys import add_sor_config

__all__ = ["ConfigError", "load_config", "settle_config"]

_log = logging.getLogger(__name__)
_OUR_ROI_HEADS = ("CenterROIHeads", "MaskRCNNHeads")


class ConfigError(ValueError):
    """A configuration that cannot be used, in one line."""


def load_config(path: str | os.PathLike[str], options: Sequence[str] = ()) -> CfgNode:
    """detectron2's defaults with our keys, a YAML file and ``KEY VALUE`` pairs, settled.

    Args:
        path: of the YAML file; empty for the defaults.
        options: keys and values, alternating.

    Raises:
        ConfigError: in one line, naming file and key.
    """
    cfg = get_cfg()
    add_sor_config(cfg)
    where = os.fspath(path)
    if where and not PathManager.isfile(where):
        raise ConfigError(f"{where}: no such config file")
    try:
        if where:
            cfg.merge_from_file(where, allow_unsafe=False)  # tags of YAML can run any code
        where = "command line"
        cfg.merge_from_list(list(options))
    except (KeyError, ValueError, AssertionError, yaml.YAMLError, OSError) as error:
        # only a KeyError's text stands in quotation marks; only that of others names files
        reason = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise ConfigError(f"{where or path}: {' '.join(reason.split()) or type(error).__name__}") from error
    except (AttributeError, TypeError) as error:
        raise ConfigError(f"{where or path}: found no keys and values, expected a YAML mapping") from error
    settle_config(cfg)
    return cfg


def settle_config(cfg: CfgNode) -> None:
    """Choose, in place, what the machine and published files leave open.

    A device that this machine lacks becomes the CPU. Published files name detectron2's
    ``GeneralizedRCNN``; with our ROI heads it becomes ``SalientObjectRanker``, the same network
    whose answers do not depend on the batch.

    Args:
        cfg: a complete configuration.

    Raises:
        ConfigError: for a device that PyTorch does not know.
    """
    try:
        device = torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise ConfigError(
            f"MODEL.DEVICE: found {cfg.MODEL.DEVICE!r}, expected such as 'cuda', 'cuda:1' or 'cpu'"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        _log.warning("MODEL.DEVICE: found %s, but there is no such device; using the CPU", cfg.MODEL.DEVICE)
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and cfg.MODEL.ROI_HEADS.NAME in _OUR_ROI_HEADS:
        cfg.MODEL.META_ARCHITECTURE = "SalientObjectRanker"
