"""The check of a configuration against the table of allowed values.

The table has three parts: what each key of this package may be (:data:`~.keys.KEYS`), what detectron2's keys
may be (:data:`~.detectron2_keys.DETECTRON2`; its other keys keep the type of their default), and what keys
may be beside others (:data:`~.together.TOGETHER`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode, get_cfg

from . import rules as r
from .detectron2_keys import DETECTRON2
from .keys import KEYS
from .together import TOGETHER, Rules, class_key

__all__ = ["ALONE", "ConfigError", "check_classes", "check_config", "flat"]


class ConfigError(ValueError):
    """A configuration that cannot be used, in one line: ``KEY: expected ..., found ...``."""


def flat(cfg: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every dotted key and its value."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


_LIST = r.plain("a list", lambda value: isinstance(value, (list, tuple)))
_INTEGER = r.plain("a whole number", lambda value: type(value) is int)
_OF_TYPE = {bool: r.SWITCH, int: _INTEGER, float: r.NUMBER, str: r.TEXT, list: _LIST, tuple: _LIST}
_DEFAULTS = {key: _OF_TYPE[type(default)] for key, default in flat(get_cfg()) if type(default) in _OF_TYPE}

# what each key may be by itself
ALONE: Rules = {**_DEFAULTS, **DETECTRON2, **{key: rule for key, (_, rule) in KEYS.items()}}


def check_config(cfg: CfgNode, *, model: bool = True) -> None:
    """Check every value against the table.

    Args:
        cfg: a complete configuration.
        model: check the keys below ``MODEL``, too.

    Raises:
        ConfigError: for the first value that is not allowed.
    """
    values = dict(flat(cfg))
    for when, rules in [({}, ALONE), *TOGETHER]:
        if not all(rule.holds(values[key], cfg) for key, rule in when.items()):
            continue
        for key, rule in rules.items():
            if key not in values or (key.startswith("MODEL.") and not model):
                continue
            if not rule.holds(values[key], cfg):
                found = repr(values[key])
                found = found if len(found) < 100 else f"{found[:96]} ..."
                raise ConfigError(f"{key}: expected {rule.expected(cfg)}, found {found}")


def check_classes(cfg: CfgNode, dataset: str, count: int) -> None:
    """Check that a detector knows as many classes as a dataset has.

    Raises:
        ConfigError: it knows fewer.
    """
    key = class_key(cfg)
    value = count if key is None else r.value_of(cfg, key)
    found = value if isinstance(value, int) else len(value)
    if found < count:
        wanted = f"at least {count}, the classes of dataset {dataset}"
        raise ConfigError(f"{key}: expected {wanted}, found {found}")
