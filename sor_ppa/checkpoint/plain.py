"""Reducing a training state to what ``read_checkpoint`` accepts: tensors, arrays and plain values."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import numpy as np
import torch

__all__ = ["plain_state"]

_log = logging.getLogger(__name__)
_SCALARS = (bool, int, float, str, bytes, type(None), torch.dtype)


def plain_state(value: Any, where: str = "state") -> Any:
    """Copy a nest of containers; what could not be read back without running code is left out with a warning.

    Args:
        value: a state dict of a model, an optimizer, a trainer.
        where: its name, for the warning.

    Returns:
        Dicts, lists, tuples, sets, tensors, arrays of numbers and plain scalars only.
    """
    kept, result = _plain(value, where)
    return result if kept else None


def _plain(value: Any, where: str) -> tuple[bool, Any]:
    if type(value) in _SCALARS:
        return True, value
    if isinstance(value, torch.Tensor):
        return True, value.detach()
    if isinstance(value, Counter):
        return True, Counter(dict(value))
    if isinstance(value, dict):
        pairs = [(k, *_plain(v, f"{where}.{k}")) for k, v in value.items() if _is_key(k, where)]
        return True, {k: v for k, kept, v in pairs if kept}
    if isinstance(value, (list, tuple)):
        items = [_plain(v, f"{where}[{i}]")[1] for i, v in enumerate(value)]
        return True, tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (set, frozenset)):
        return True, {v for v in value if _is_key(v, where)}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return True, value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return True, value
    if isinstance(value, torch.device):
        return True, str(value)
    _log.warning("%s is a %s and is not saved: weight files hold numbers only", where, type(value).__name__)
    return False, None


def _is_key(key: Any, where: str) -> bool:
    if isinstance(key, (str, int, float)):
        return True
    _log.warning("%s has a %s as key; the entry is not saved", where, type(key).__name__)
    return False
