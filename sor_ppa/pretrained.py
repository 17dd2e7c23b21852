"""Finding the configuration and weights that a user names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import yaml
from detectron2.config import CfgNode, get_cfg

from .checkpoint import read_checkpoint_info
from .checkpoint.info import CheckpointInfo
from .config import ConfigError, add_sor_config, get_config_file, load_config, settle_config
from .export.info import GraphInfo
from .export.runtime import is_graph, read_info
from .zoo import resolve

__all__ = ["find_pretrained", "parse_config"]

CONTRAST = "contrast"


def find_pretrained(
    source: str | os.PathLike[str],
    config: str | os.PathLike[str] | None = None,
    options: Sequence[str] = (),
) -> tuple[CfgNode, tuple[str, ...]]:
    """Return the configuration, with ``MODEL.WEIGHTS``, and the class names (maybe none) of a model.

    Args:
        source: a weight file, an exported model, the name of a model of the zoo, or "contrast".
        config: YAML file, instead of the configuration in the weight file.
        options: ``KEY VALUE`` overrides.

    Raises:
        ZooError: no such file, nor a model of this name that was fetched.
        ConfigError: no configuration in the file and none given, or one that cannot be used.
        CheckpointError: the file cannot be read.
    """
    name = os.fspath(source)
    if name == CONTRAST:
        return load_config(config or get_config_file("contrast/contrast.yaml"), options), ()
    info: CheckpointInfo | GraphInfo | None
    if is_graph(name):
        path, info = Path(name), read_info(name)
    elif os.path.isdir(name):
        raise ConfigError(f"{name}: expected a checkpoint or an exported model, found a folder without .xml")
    else:
        path = Path(name) if os.path.isfile(name) else resolve(name)
        info = read_checkpoint_info(path)
    names = info.class_names if info is not None else ()
    overrides = ["MODEL.WEIGHTS", os.fspath(path), *options]
    if config is not None:
        return load_config(config, overrides), names
    if info is None:
        raise ConfigError(
            f"{name}: expected a checkpoint with its configuration inside, found weights alone; name its "
            "YAML file (--config-file; in Python, config)"
        )
    return parse_config(info.config, name, overrides), names


def parse_config(text: str, name: str, options: Sequence[str]) -> CfgNode:
    """Return a configuration that a file holds, with overrides.

    Args:
        text: YAML.
        name: of the file, for errors.
        options: ``KEY VALUE`` overrides.

    Raises:
        ConfigError: one that cannot be used.
    """
    cfg = get_cfg()
    add_sor_config(cfg)
    try:
        cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(text)))
        cfg.merge_from_list(list(options))
    except (KeyError, ValueError, AssertionError, AttributeError, TypeError, yaml.YAMLError) as error:
        reason = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise ConfigError(f"{name}: its configuration: {' '.join(reason.split())}") from error
    settle_config(cfg, options)
    return cfg
