"""Building the model of a checked configuration."""

from __future__ import annotations

import logging

from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from .config import ConfigError, check_config

__all__ = ["build_checked_model"]

_log = logging.getLogger(__name__)


def build_checked_model(cfg: CfgNode) -> nn.Module:
    """Check a configuration and build its model on ``MODEL.DEVICE``.

    Args:
        cfg: a complete configuration.

    Raises:
        ConfigError: in one line, for a value that is not allowed or settings that do not fit together.
    """
    check_config(cfg)
    try:
        return build_model(cfg)
    except (ValueError, KeyError, AssertionError) as error:
        _log.debug("The model cannot be built", exc_info=True)
        reason = " ".join(str(error).split())
        if type(error) in (ValueError, KeyError, AssertionError):  # others, as of weight files, name a file
            reason = f"MODEL: expected settings that fit together, found {type(error).__name__}: {reason}"
        raise ConfigError(reason) from error
