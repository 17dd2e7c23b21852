"""Finding the state dict inside what a training program saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from .errors import CheckpointError, shown

__all__ = ["find_state_dict", "strip_prefixes"]

# Keys under which training programs put the state dict; of several, the first of this list is taken.
WRAPPERS = (
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
        "checkpoint",
    ),
    *("teacher", "model_ema", "state_dict_ema", "ema_state_dict", "ema", "student", "module"),
)
# Wrappers of torch around a whole model: DistributedDataParallel and torch.compile.
_MODULE_PREFIXES = ("module.", "_orig_mod.")
_AVERAGED = "n_averaged"
_LEVELS = 4
_LONGEST_NAME = 512


def find_state_dict(loaded: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """Find the parameters.

    Args:
        loaded: what the file holds: a state dict, or a dict with one under a usual name, up to four deep.

    Returns:
        Name -> tensor (numbers become 0-d tensors); everything else at the top level; and the keys that led
        to the state dict, joined by dots (empty: none).

    Raises:
        CheckpointError: if there is none, or it holds something that is no tensor.
    """
    extras: dict[str, Any] = {}
    keys: list[str] = []
    for _ in range(_LEVELS):
        if not isinstance(loaded, dict):
            break
        wrapper = next((k for k in WRAPPERS if isinstance(loaded.get(k), dict)), None)
        if wrapper is None or _mostly_tensors(loaded):
            break
        if not keys:
            extras = {str(k): v for k, v in loaded.items() if k != wrapper}
        keys.append(wrapper)
        loaded = loaded[wrapper]
    if not isinstance(loaded, dict):
        raise CheckpointError(f"holds {shown(loaded)}, expected a state dict of tensors")
    where = ".".join(keys)
    tensors, rest = _tensors(loaded, where)
    if not tensors:
        names = ", ".join(sorted(shown(k, 30) for k in list(loaded)[:8])) or "nothing"
        raise CheckpointError(
            f"no tensors under {where or 'the top level'} (found {names}), expected a state dict"
        )
    return tensors, extras | rest, where


def strip_prefixes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove ``module.`` (DistributedDataParallel) and ``_orig_mod.`` where every name begins with it.

    With it goes the counter that ``torch.optim.swa_utils.AveragedModel`` puts beside ``module.``.
    """
    result = {name: tensor for name, tensor in tensors.items() if name != _AVERAGED or len(tensors) == 1}
    while prefix := next(
        (p for p in _MODULE_PREFIXES if result and all(n.startswith(p) for n in result)), None
    ):
        result = {name[len(prefix) :]: tensor for name, tensor in result.items()}
    return result


def _mostly_tensors(values: Mapping[Any, Any]) -> bool:
    return 2 * sum(isinstance(v, torch.Tensor) for v in values.values()) > len(values)


def _tensors(values: Mapping[Any, Any], where: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Split a state dict into tensors and (only at the top level of a file) other entries."""
    tensors: dict[str, torch.Tensor] = {}
    rest: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, (bool, int, float)) and where:
            value = torch.tensor(value)
        if not isinstance(value, torch.Tensor):
            rest[str(name)] = value
            continue
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
            raise CheckpointError(f"a parameter named {shown(name)}, expected a printable name")
        tensors[name] = value
    if rest and where and tensors:
        name, value = next(iter(rest.items()))
        raise CheckpointError(f"parameter {shown(name)} is {shown(value)}, expected a tensor")
    return tensors, rest
