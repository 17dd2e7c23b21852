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

from .allowed import ConfigError, check_config
from .files import find_config
from .keys import add_sor_config
from .thresholds import RANKING_ROI_HEADS, score_threshold

__all__ = ["load_config", "settle_config"]

_log = logging.getLogger(__name__)
_MAX_ALIASES = 16  # nested YAML aliases multiply: some hundred of them fill the memory
_MAX_DEPTH = 50  # the time to read nested YAML lists grows with the square of their depth
_DEEPER = (
    *(yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken),
    *(yaml.BlockSequenceStartToken, yaml.BlockMappingStartToken),
)
_HIGHER = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)

# errors of a merge that are common mistakes, and the words for them
_MISTAKES = {
    r"Non-existent (?:config )?key: (\S+)": "{0}: expected a configuration key, found an unknown name",
    r"Type mismatch .*'(?:\S+\.)?(\S+)'> vs\. <class '(?:\S+\.)?(\S+)'>.* for config key: (\S+)": (
        "{2}: expected {0}, found {1}"
    ),
    "Override list has odd length": "expected pairs of key and value, found a key without a value",
    r"constructor for the tag '(?:tag:yaml.org,2002:)?(\S+)' in \"(.+)\", line (\d+)": (
        "line {2} of {1}: expected plain values, found the tag {0}; write the list out"
    ),
    "maximum recursion depth": "expected _BASE_ files that end, found a file that is its own base",
}


def load_config(path: str | os.PathLike[str], options: Sequence[str] = ()) -> CfgNode:
    """Return detectron2's defaults with our keys, a YAML file and ``KEY VALUE`` pairs merged, and settled.

    Keys below ``MODEL`` are checked when the model is built, all others here.

    Args:
        path: of the YAML file, or the name of one of this package, for example ``"sor/ppa.yaml"``; empty for
            the defaults.
        options: keys and values, alternating.

    Raises:
        ConfigError: in one line, naming file and key.
    """
    cfg = get_cfg()
    add_sor_config(cfg)
    where = os.fspath(path)
    try:
        if where:
            cfg.merge_from_file(_checked_file(where), allow_unsafe=False)  # unsafe YAML tags can run any code
        where = "command line"
        cfg.merge_from_list(list(options))
    except Exception as error:  # of yacs, the YAML reader or the file system
        raise ConfigError(f"{where}: {_reason(error)}") from error
    settle_config(cfg, options)
    check_config(cfg, model=False)
    return cfg


def _checked_file(where: str) -> str:
    file = find_config(where)
    if file is None:
        raise ValueError("expected a config file, found no such file")
    aliases = depth = 0
    with PathManager.open(file) as text:
        for token in yaml.scan(text):
            aliases += isinstance(token, yaml.AliasToken)
            depth += isinstance(token, _DEEPER) - isinstance(token, _HIGHER)
            if aliases > _MAX_ALIASES:
                raise ValueError(f"expected at most {_MAX_ALIASES} YAML aliases, found more")
            if depth > _MAX_DEPTH:
                raise ValueError(f"expected at most {_MAX_DEPTH} nested lists or mappings, found more")
    return file


def _reason(error: Exception) -> str:
    """Return in one line why a merge failed."""
    if isinstance(error, (AttributeError, TypeError)):
        return "expected a YAML mapping of keys to values, found something else"
    # str() of a KeyError adds quotation marks
    said = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
    for pattern, words in _MISTAKES.items():
        if match := re.search(pattern, said):
            return words.format(*match.groups()).replace("CfgNode", "keys and values")
    return said or type(error).__name__


def settle_config(cfg: CfgNode, options: Sequence[str] = ()) -> None:
    """Choose, in place, what the machine and published files leave open.

    A GPU that this machine lacks becomes the CPU. Published files name detectron2's
    ``GeneralizedRCNN``; with the ROI heads of this package it becomes ``SalientObjectRanker``, the same
    network with batch-independent inference. They name no score thresholds; see :func:`score_threshold`.
    What the published Mask2Former names is replaced by this package's names for the same, where ``options``,
    keys and values that were merged last, do not set these.

    Raises:
        ConfigError: for a device that PyTorch does not know.
    """
    name = cfg.MODEL.DEVICE
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"MODEL.DEVICE: expected a device such as 'cuda' or 'cpu', found {name!r}"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        _log.info("MODEL.DEVICE is %s; no GPU is available, so the model runs on the CPU", name)
        cfg.MODEL.DEVICE = "cpu"
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and cfg.MODEL.ROI_HEADS.NAME in RANKING_ROI_HEADS:
        cfg.MODEL.META_ARCHITECTURE = "SalientObjectRanker"
    if cfg.MODEL.META_ARCHITECTURE == "MaskFormer":
        cfg.MODEL.META_ARCHITECTURE = "Mask2Former"
        cfg.MODEL.MASK_ON = True
    if cfg.MODEL.BACKBONE.NAME == "D2SwinTransformer":
        cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    if cfg.SOLVER.OPTIMIZER == "ADAMW":
        cfg.SOLVER.OPTIMIZER = "AdamW"
    if cfg.INPUT.DATASET_MAPPER_NAME == "coco_instance_lsj":
        jitter = {"ENABLED": True, "MIN_SCALE": cfg.INPUT.MIN_SCALE, "MAX_SCALE": cfg.INPUT.MAX_SCALE}
        jitter["SIZE"] = [cfg.INPUT.IMAGE_SIZE] * 2
        named = options[::2]
        cfg.INPUT.LSJ.update({key: jitter[key] for key in jitter if f"INPUT.LSJ.{key}" not in named})
        cfg.INPUT.DATASET_MAPPER_NAME = ""
    for node, key in ((cfg.MODEL.FCOS, "INFERENCE_TH_TEST"), (cfg.MODEL.ROI_HEADS, "SCORE_THRESH_TEST")):
        node[key] = score_threshold(cfg, node[key])
