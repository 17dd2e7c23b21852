"""Building the model of a checked configuration, with weights, and wrapping it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from torch import nn

from .checkpoint import SORCheckpointer
from .config import ConfigError, check_config, flat
from .cpu_inference import tune_for_inference
from .zoo import entry_of_file, installed

__all__ = [
    "DetectorWrapper",
    "build_checked_model",
    "build_loaded_model",
    "check_weights_named",
    "find_weights",
    "needs_weights",
]

_log = logging.getLogger(__name__)
# meta-architectures whose training starts from other weights, and the keys that may name them
_STARTS_FROM = {
    "InSPyReNet": ("MODEL.WEIGHTS", "MODEL.INSPYRENET.BACKBONE_WEIGHTS"),
    "SiameseDETR": ("MODEL.WEIGHTS",),
}


def build_checked_model(cfg: CfgNode) -> nn.Module:
    """Check a complete configuration and build its model on ``MODEL.DEVICE``.

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


def needs_weights(cfg: CfgNode) -> bool:
    """Return whether the meta-architecture has weights to learn or load; most do."""
    name = cfg.MODEL.META_ARCHITECTURE
    return name not in META_ARCH_REGISTRY or getattr(META_ARCH_REGISTRY.get(name), "needs_weights", True)


def check_weights_named(cfg: CfgNode, options: Sequence[str], *, training: bool = False) -> None:
    """Check that random weights are asked for, by an empty value on the command line.

    Args:
        cfg: the configuration.
        options: keys and values of the command line, alternating.
        training: only models whose training starts from other weights need some.

    Raises:
        ConfigError: no weights are named.
    """
    keys = _STARTS_FROM.get(cfg.MODEL.META_ARCHITECTURE, ()) if training else ("MODEL.WEIGHTS",)
    values = dict(flat(cfg))
    if keys and needs_weights(cfg) and not any(values[key] or key in options[::2] for key in keys):
        expected = 'a weight file ("" on the command line for random weights)'
        raise ConfigError(f"{' or '.join(keys)}: expected {expected}, found none")


def find_weights(weights: str) -> str:
    """Return ``MODEL.WEIGHTS``, or the fetched model of the zoo that has this name or this published file.

    Args:
        weights: a file, an address, the name of a model of the zoo, or "".

    Raises:
        FileNotFoundError: a file that does not exist; the line says how to get it, where the zoo has it.
    """
    path = weights.removesuffix("?matching_heuristics=True")  # detectron2's; see SORCheckpointer
    if not weights or "://" in weights or os.path.isfile(path):
        return weights
    entry = entry_of_file(path)
    if entry is not None and (file := installed(entry.name)):
        _log.info("MODEL.WEIGHTS: %s is the fetched model %s", weights, entry.name)
        return str(file)
    source = f"run: sor-ppa models get {entry.name}" if entry else "the config may say where it comes from"
    raise FileNotFoundError(f'MODEL.WEIGHTS: no such file: {weights} ({source}; "" gives random weights)')


def build_loaded_model(
    cfg: CfgNode, tune: Callable[[nn.Module], nn.Module] = tune_for_inference
) -> nn.Module:
    """Build a model with ``MODEL.WEIGHTS``, tuned for inference; warn of random parameters.

    Args:
        cfg: a complete configuration.
        tune: :func:`fold_for_inference` keeps layers that can be exported.

    Raises:
        ConfigError: see :func:`build_checked_model`.
        FileNotFoundError: ``MODEL.WEIGHTS`` names a file that does not exist.
        CheckpointError: the weights do not fit the model.
    """
    weights = find_weights(cfg.MODEL.WEIGHTS)
    model = build_checked_model(cfg)
    if weights:
        checkpointer = SORCheckpointer(model)
        checkpointer.load(weights, checkpointables=[])
        if missing := list(checkpointer.fit.incomplete) if checkpointer.fit is not None else []:
            _log.warning(
                "%s lacks %d parameters of this model (%s ...): they stay random, so results may be, too",
                *(weights, len(missing), ", ".join(missing[:2])),
            )
    elif getattr(model, "needs_weights", True):
        _log.warning("MODEL.WEIGHTS is empty: the model keeps its random weights, its results mean nothing")
    return tune(model)


class DetectorWrapper(nn.Module):
    """A module around a detector; attributes that it lacks are the detector's.

    So callers read ``backbone``, ``detect`` or ``salience_maps`` of a model whether it is wrapped or not.

    Args:
        detector: the model inside.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "detector":
                raise
            return getattr(self.detector, name)
