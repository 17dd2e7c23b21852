"""Finding the state dict inside what a training program saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from .errors import CheckpointError, shown

__all__ = ["find_state_dict", "strip_prefixes"]

# Keys under which training programs put the state dict; of several, the first of this list is taken.
_WRAPPERS = (
    *(
        "model",
        "state_dict",
        "model_state_dict",
        "model_state",
        "blobs",
        "net",
        "network",
        "params",
        "weights",
    ),
    *("checkpoint", "teacher", "model_ema", "state_dict_ema", "ema_state_dict", "ema", "student", "module"),
)
# Wrappers of torch around a whole model: DistributedDataParallel and torch.compile.
_MODULE_PREFIXES = ("module.", "_orig_mod.")
# A counter that torch.optim.swa_utils.AveragedModel puts beside ``module.``
_AVERAGED = "n_averaged"
_LEVELS = 4
_LONGEST_NAME = 512


def find_state_dict(loaded: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """Find the parameters.

    Args:
        loaded: what the file holds: a state dict, or a dict with one under a usual name, up to four deep.

    Returns:
        Name -> tensor (arrays and numbers become tensors); everything else at the top level; and the keys
        that led to the state dict, joined by dots (empty: none).

    Raises:
        CheckpointError: if there is none, or it holds something that is no tensor.
    """
    extras: dict[str, Any] = {}
    keys: list[str] = []
    while isinstance(loaded, dict) and len(keys) < _LEVELS and not _mostly_tensors(loaded):
        wrapper = next((key for key in _WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if wrapper is None:
            break
        if not keys:
            extras = {str(key): value for key, value in loaded.items() if key != wrapper}
        keys.append(wrapper)
        loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"found {shown(loaded)}, expected a state dict of tensors")
    tensors = {}
    for name, value in loaded.items():
        tensor = _as_tensor(value, numbers=bool(keys))
        if tensor is None and keys:
            raise CheckpointError(f"parameter {shown(name)}: found {shown(value)}, expected a tensor")
        if tensor is None:
            extras[str(name)] = value
        elif isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME and name.isprintable():
            tensors[name] = tensor
        else:
            raise CheckpointError(f"found a parameter named {shown(name)}, expected a printable name")
    if not tensors:
        names = ", ".join(shown(key, 30) for key in list(loaded)[:8]) or "nothing"
        where = ".".join(keys) or "the top level"
        raise CheckpointError(f"found no tensors under {where} (but {names}), expected a state dict")
    return tensors, extras, ".".join(keys)


def strip_prefixes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove ``module.`` and ``_orig_mod.`` where every name begins with it."""
    result = {name: tensor for name, tensor in tensors.items() if name != _AVERAGED or len(tensors) == 1}
    while prefix := next((p for p in _MODULE_PREFIXES if all(name.startswith(p) for name in result)), None):
        result = {name.removeprefix(prefix): tensor for name, tensor in result.items()}
    return result


def _mostly_tensors(values: Mapping[Any, Any]) -> bool:
    return 2 * sum(isinstance(v, (torch.Tensor, np.ndarray)) for v in values.values()) > len(values)


def _as_tensor(value: Any, numbers: bool) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
    return torch.tensor(value) if numbers and isinstance(value, (bool, int, float)) else None
